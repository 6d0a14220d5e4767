"""Chapter 2: the state leaves the program.

A container's folder goes with the container, and a second container has another one. So before the program can move,
its state has to: examples and model into PostgreSQL, the cache of scores into Redis (here Valkey, its open successor).
The program stays the same; `DATABASE_URL` and `REDIS_URL` say where its store is. On AWS they will name RDS and
ElastiCache.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import redis
from checks import counts, metrics, recommended
from program import DATA, Program

ProgramOn = Callable[[Mapping[str, str]], Program]


def test_training_must_give_the_same_model_on_every_store(furui: Program, furui_on: ProgramOn, postgres: str) -> None:
    """A store is a place, not an opinion: the same examples and seed give the same numbers, wherever they are kept.

    It is less obvious than it looks. A database returns rows in whatever order it likes, and sorts text differently
    from Python; the order of examples changes what is learned. Look at the model's version: it is the same.
    """
    here, there = furui, furui_on({"DATABASE_URL": postgres})
    versions = []
    for program in (here, there):
        program.must("import", DATA)
        versions.append(program.must("train", "--seed", "3").line("model")["version"])
    assert versions[0] == versions[1]
    assert metrics(here, seed=5) == metrics(there, seed=5)


def test_data_must_move_from_files_to_the_database_without_loss(
    furui: Program, furui_on: ProgramOn, postgres: str, tmp_path: Path
) -> None:
    """Moving day: `copy` brings examples, labels and model from the folder to the database.

    It can be repeated, and it adds to what is there already: a label that someone gave meanwhile is kept. What counts
    is that the program says the same afterwards. Look at the recommendations, before and after.
    """
    (tmp_path / "open.tsv").write_text("\tBGP: routes between autonomous systems of the Internet\n", encoding="utf-8")
    furui.must("import", tmp_path / "open.tsv")
    furui.must("train", "--import", DATA)
    moved = furui_on({"DATABASE_URL": postgres})

    first, again = (moved.must("copy", "--from-dir", furui.folder).line("copy") for _ in range(2))
    assert first == {"new": "1432", "changed": "0", "unchanged": "0"}
    assert again == {"new": "0", "changed": "0", "unchanged": "1432"}
    assert counts(moved) == counts(furui) == {"count": 1432, "labelled": 1431, "unlabelled": 1}
    assert recommended(moved) == recommended(furui)


def test_two_processes_on_one_database_must_lose_nothing(furui_on: ProgramOn, postgres: str, tmp_path: Path) -> None:
    """What the lock on a file did on one machine, transactions do for any number of machines.

    Both processes come to an empty database, too: each wants to create the tables, and one has to wait for the other.
    """
    program = furui_on({"DATABASE_URL": postgres})
    for half, label in (("one", "y"), ("two", "n")):
        own = "".join(f"\ttext {number} of {half}\n" for number in range(300))
        shared = "".join(f"{label}\tshared {number}\n" for number in range(200))
        (tmp_path / half).write_text(own + shared, encoding="utf-8")
    with program.start("import", tmp_path / "one") as one, program.start("import", tmp_path / "two") as two:
        assert (one.wait(30), two.wait(30)) == (0, 0)
    diagnosis = program.must("diagnose")
    assert diagnosis.line("examples") == {"count": "800", "labelled": "0", "unlabelled": "600"}
    assert diagnosis.line("conflicts") == {"count": "200"}


def test_scores_must_come_from_the_cache_and_expire_there(furui_on: ProgramOn, postgres: str, valkey: str) -> None:
    """Scoring is repeated work, so scores are kept in Redis, by the model's version: a new model starts afresh.

    Everything in a cache has to be allowed to go. Look at the time to live: nothing stays for ever.
    """
    program = furui_on({"DATABASE_URL": postgres, "REDIS_URL": valkey})
    version = program.must("train", "--import", DATA).line("model")["version"]
    first = recommended(program)
    with redis.Redis.from_url(valkey, decode_responses=True) as cache:
        (key,) = cache.keys()
        assert version in key
        assert 0 < cache.ttl(key) <= 3600
        cache.hset(key, first[9], "99.5")
        assert recommended(program)[0] == first[9], "the score came from somewhere else than the cache"
        cache.flushdb()
    assert recommended(program) == first


def test_a_cache_that_is_down_must_cost_time_but_no_answer(furui_on: ProgramOn, postgres: str) -> None:
    """Caches are restarted, resized and replaced. A program that falls over with its cache has two databases.

    Nothing listens on the port here. Look at the one line that says so, and at the recommendations, which come all the
    same.
    """
    program = furui_on({"DATABASE_URL": postgres})
    program.must("train", "--import", DATA)
    without = furui_on({"DATABASE_URL": postgres, "REDIS_URL": "redis://127.0.0.1:1/0"})
    ran = without.must("recommend")
    assert len(ran.lines("cache-unavailable")) == 1
    assert [line["id"] for line in ran.lines("recommend")] == recommended(program)


def test_a_database_that_is_down_must_be_named_in_one_line(furui_on: ProgramOn) -> None:
    """Without its database the program can do nothing; it says so at once, in a line, and not with a trace.

    On AWS this line is what `stoppedReason` and the log group lead you to when a security group is wrong.
    """
    ran = furui_on({"DATABASE_URL": "postgresql://furui@127.0.0.1:1/furui"}).run("diagnose")
    assert (ran.exit_code, len(ran.errors.splitlines())) == (2, 1)
    assert "PostgreSQL" in ran.errors
