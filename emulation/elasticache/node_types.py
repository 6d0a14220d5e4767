"""How much memory each node type gives to the data, in bytes.

Source: Valkey and Redis OSS parameters, "Redis OSS node-type specific parameters" (`maxmemory`). The older types that
nobody can create any more (m1, m2, c1, t1) are left out, as are those with data tiering (r6gd).
"""

from collections.abc import Mapping

_M5 = {
    "large": 6854542746,
    "xlarge": 13891921715,
    "2xlarge": 27966669210,
    "4xlarge": 56116178125,
    "12xlarge": 168715971994,
    "24xlarge": 337500562842,
}
_R5 = {
    "large": 14037181030,
    "xlarge": 28261849702,
    "2xlarge": 56711183565,
    "4xlarge": 113609865216,
    "12xlarge": 341206346547,
    "24xlarge": 682485973811,
}
_M6 = {
    **{size: memory for size, memory in _M5.items() if size != "24xlarge"},
    "8xlarge": 111325552312,
    "16xlarge": 225000375228,
}
_R6 = {
    **{size: memory for size, memory in _R5.items() if size != "24xlarge"},
    "8xlarge": 225000375228,
    "16xlarge": 450000750456,
}
_FAMILIES: Mapping[str, Mapping[str, int]] = {
    "t2": {"micro": 581959680, "small": 1665138688, "medium": 3461349376},
    "t3": {"micro": 536870912, "small": 1471026299, "medium": 3317862236},
    "t4g": {"micro": 536870912, "small": 1471026299, "medium": 3317862236},
    "m4": {
        "large": 6892593152,
        "xlarge": 15328501760,
        "2xlarge": 32189126656,
        "4xlarge": 65257290629,
        "10xlarge": 166047614239,
    },
    "m5": _M5,
    "m6g": _M6,
    "m7g": _M6,
    "r4": {
        "large": 13201781556,
        "xlarge": 26898228839,
        "2xlarge": 54197537997,
        "4xlarge": 108858546586,
        "8xlarge": 218255432090,
        "16xlarge": 437021573120,
    },
    "r5": _R5,
    "r6g": _R6,
    "r7g": _R6,
}

MAXMEMORY: Mapping[str, int] = {
    f"cache.{family}.{size}": memory for family, sizes in _FAMILIES.items() for size, memory in sizes.items()
}
