"""What ECR refuses, once: each error has the AWS API's name and the registry's code for the same thing.

Source: Amazon ECR API Reference, "Common errors" and the errors of each action; OCI Distribution Specification,
"Error Codes".
"""

from typing import ClassVar

from emulation.errors import SunaboxError
from emulation.images.reference import EcrName


class EcrError(SunaboxError):
    """`code` is the exception of the AWS API; `registry_code` and `registry_status` are what `docker push` sees."""

    code: ClassVar[str] = "InvalidParameterException"
    registry_code: ClassVar[str] = "UNSUPPORTED"
    registry_status: ClassVar[int] = 400


class RepositoryNotFound(EcrError):
    code = "RepositoryNotFoundException"
    registry_code = "NAME_UNKNOWN"
    registry_status = 404

    def __init__(self, name: EcrName) -> None:
        super().__init__(f"The repository with name '{name.repository}' does not exist {_registry(name)}")


class RepositoryNotEmpty(EcrError):
    code = "RepositoryNotEmptyException"

    def __init__(self, name: EcrName) -> None:
        super().__init__(
            f"The repository with name '{name.repository}' in registry with id '{name.account}' "
            "cannot be deleted because it still contains images"
        )


class ManifestInvalid(EcrError):
    registry_code = "MANIFEST_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(
            "Invalid parameter at 'ImageManifest' failed to satisfy constraint: "
            f"'Invalid Image Manifest provided': {reason}"
        )


class ManifestDigestMismatch(EcrError):
    code = "ImageDigestDoesNotMatchException"
    registry_code = "DIGEST_INVALID"

    def __init__(self, announced: str, calculated: str) -> None:
        super().__init__(
            f"The specified image digest '{announced}' does not match the digest '{calculated}' "
            "that Amazon ECR calculated for the image."
        )


class LayersNotFound(EcrError):
    code = "LayersNotFoundException"
    registry_code = "MANIFEST_BLOB_UNKNOWN"

    def __init__(self, name: EcrName, digests: list[str]) -> None:
        super().__init__(
            f"Layers with digests '[{', '.join(digests)}]' required for pushing image into repository with name "
            f"'{name.repository}' {_registry(name)} do not exist"
        )


class LayerNotFound(EcrError):
    code = "LayersNotFoundException"
    registry_code = "BLOB_UNKNOWN"
    registry_status = 404

    def __init__(self, name: EcrName, digest: str) -> None:
        super().__init__(
            f"The layer with digest '{digest}' does not exist in the repository with name '{name.repository}' "
            f"{_registry(name)}"
        )


class ReferencedImagesNotFound(EcrError):
    code = "ReferencedImagesNotFoundException"
    registry_code = "MANIFEST_BLOB_UNKNOWN"

    def __init__(self, name: EcrName, digests: list[str]) -> None:
        super().__init__(
            f"Images with digests '[{', '.join(digests)}]' required for pushing image into repository with name "
            f"'{name.repository}' {_registry(name)} do not exist"
        )


class ImageNotFound(EcrError):
    code = "ImageNotFoundException"
    registry_code = "MANIFEST_UNKNOWN"
    registry_status = 404

    def __init__(self, name: EcrName, digest: str, tag: str) -> None:
        super().__init__(
            f"The image with imageId {{imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'}} does not exist "
            f"within the repository with name '{name.repository}' {_registry(name)}"
        )


class ImageReferenced(EcrError):
    registry_code = "DENIED"

    def __init__(self, digests: list[str]) -> None:
        super().__init__(f"Requested image referenced by manifest list: [{', '.join(digests)}]")


class ImageAlreadyExists(EcrError):
    code = "ImageAlreadyExistsException"

    def __init__(self, name: EcrName, digest: str, tag: str) -> None:
        tagged = f" and tag '{tag}'" if tag else ""
        super().__init__(
            f"Image with digest '{digest}'{tagged} already exists in the repository with name '{name.repository}' "
            f"in registry with id '{name.account}'"
        )


class TagInvalid(EcrError):
    registry_code = "TAG_INVALID"

    def __init__(self, tag: str) -> None:
        super().__init__(
            f"Invalid parameter at 'imageTag' failed to satisfy constraint: '{tag[:200]}' must be 1 to 128 letters, "
            "digits, underscores, periods or dashes, and not begin with a period or a dash"
        )


class TagImmutable(EcrError):
    code = "ImageTagAlreadyExistsException"
    registry_code = "TAG_INVALID"

    def __init__(self, name: EcrName, tag: str) -> None:
        super().__init__(
            f"The image tag '{tag}' already exists in the '{name.repository}' repository and cannot be overwritten "
            "because the repository is immutable."
        )


class UploadNotFound(EcrError):
    code = "UploadNotFoundException"
    registry_code = "BLOB_UPLOAD_UNKNOWN"
    registry_status = 404

    def __init__(self, name: EcrName, upload_id: str) -> None:
        super().__init__(
            f"Upload with id '{upload_id[:100]}' could not be found for the repository with name '{name.repository}' "
            f"{_registry(name)}"
        )


class LayerDigestMismatch(EcrError):
    code = "InvalidLayerException"
    registry_code = "DIGEST_INVALID"

    def __init__(self, reason: str) -> None:
        super().__init__(
            "The layer digest calculation performed by Amazon ECR upon receipt of the image layer does not match the "
            f"digest specified ({reason})"
        )


class LayerAlreadyExists(EcrError):
    code = "LayerAlreadyExistsException"

    def __init__(self, name: EcrName, digest: str) -> None:
        super().__init__(
            f"Layer with digest '{digest}' already exists in the repository with name '{name.repository}' "
            f"{_registry(name)}"
        )


class LayerPartTooSmall(EcrError):
    code = "LayerPartTooSmallException"

    def __init__(self, smallest: int) -> None:
        super().__init__(f"Layer parts must be at least {smallest >> 20} MiB in size, except for the last one.")


class EmptyUpload(EcrError):
    code = "EmptyUploadException"

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"The layer upload with id '{upload_id}' does not contain any layer parts.")


class LifecyclePolicyInvalid(EcrError):
    def __init__(self, reason: str) -> None:
        super().__init__(
            "Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: "
            f"'Lifecycle policy validation failure: {reason}'"
        )


def _registry(name: EcrName) -> str:
    return f"in the registry with id '{name.account}'"
