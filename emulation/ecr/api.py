"""The AWS API of ECR: moto's parsing and answers, over the store that the registry uses too.

The only file here that imports moto; importing it takes a while, so it is imported when somebody first asks for ECR.
moto keeps a repository's settings, which are written through to the store; images, tags and layers are in the store
alone.

Source: Amazon ECR API Reference.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any, ClassVar, ParamSpec, TypeVar

from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.ecr import models, urls
from moto.ecr.exceptions import (
    InvalidLayerPartException,
    LifecyclePolicyNotFoundException,
    RepositoryNotEmptyException,
    ScanNotFoundException,
)
from moto.ecr.responses import ECRResponse

from emulation.ecr import images_api, layers_api, lifecycle_api, tokens
from emulation.ecr.errors import EcrError
from emulation.ecr.errors import ImageNotFound as NoSuchImage
from emulation.ecr.lifecycle import parse_policy
from emulation.ecr.manifest import read_pushed
from emulation.ecr.records import RepositoryRecord
from emulation.ecr.service import Ecr
from emulation.errors import ImageError
from emulation.images.reference import EcrName

P = ParamSpec("P")
T = TypeVar("T")

_MOST_RESULTS = 1000


def install(ecr: Ecr) -> None:
    """Puts `ecr` behind moto's ECR. On the API thread, before the first request for ECR."""
    EcrBackend.ecr = ecr
    models.ecr_backends.clear()
    models.ecr_backends.backend = EcrBackend
    urls.url_paths = {"{0}/$": EcrResponse.dispatch}


class Refused(ServiceException):
    """moto finds the service whose error shapes apply by the module that an exception's class is in."""


def _in_aws_words(function: Callable[P, T]) -> Callable[P, T]:
    """Turns our errors into those that moto writes into answers."""

    @wraps(function)
    def translated(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except EcrError as error:
            raise Refused(error.code, str(error)) from error
        except ImageError as error:
            raise Refused("InvalidParameterException", str(error)) from error
        except OSError as error:
            message = f"Sunabox's data folder cannot be used: {error}. Nothing was kept."
            raise Refused("ServerException", message) from error

    return translated


@dataclass(frozen=True, slots=True)
class RegistryImage:
    """An image as PutImage and BatchGetImage answer it; moto's Lambda reads it too."""

    registry_id: str
    repository_name: str
    image_id: dict[str, str]
    image_manifest: str
    image_manifest_media_type: str


class EcrBackend(models.ECRBackend):
    """An account's ECR in a region."""

    ecr: ClassVar[Ecr]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.previews: dict[str, lifecycle_api.Preview] = {}
        for record in self.ecr.store.repositories(account_id, region_name):
            self._restore(record)

    @property
    def _url_module(self) -> Any:
        return urls

    def reset(self) -> None:
        for repository_name in list(self.repositories):
            self.ecr.delete_repository(self._name(repository_name))
        super().reset()

    # --- Repositories

    def create_repository(self, *args: Any, **kwargs: Any) -> models.Repository:
        repository = super().create_repository(*args, **kwargs)
        name = self._name(repository.name)
        repository.uri = self.ecr.repository_uri(name)
        self.ecr.store.create(name, self._settings(repository))
        return repository

    def delete_repository(
        self, repository_name: str, registry_id: str | None = None, force: bool = False
    ) -> models.Repository:
        record = self.record(repository_name, registry_id)
        if record.images and not force:
            raise RepositoryNotEmptyException(repository_name, self.account_id)
        self.previews.pop(repository_name, None)
        deleted = super().delete_repository(repository_name, registry_id, force)
        self.ecr.delete_repository(record.name)
        return deleted

    def put_image_tag_mutability(self, registry_id: str, repository_name: str, *args: Any, **kwargs: Any) -> Any:
        answer = super().put_image_tag_mutability(registry_id, repository_name, *args, **kwargs)
        self._save(repository_name)
        return answer

    def put_image_scanning_configuration(
        self, registry_id: str, repository_name: str, *args: Any, **kwargs: Any
    ) -> Any:
        answer = super().put_image_scanning_configuration(registry_id, repository_name, *args, **kwargs)
        self._save(repository_name)
        return answer

    def set_repository_policy(self, registry_id: str, repository_name: str, policy_text: str) -> Any:
        answer = super().set_repository_policy(registry_id, repository_name, policy_text)
        self._save(repository_name)
        return answer

    def delete_repository_policy(self, registry_id: str, repository_name: str) -> Any:
        answer = super().delete_repository_policy(registry_id, repository_name)
        self._save(repository_name)
        return answer

    def tag_resource(self, arn: str, tags: list[dict[str, str]]) -> None:
        super().tag_resource(arn, tags)
        self._save(self._parse_resource_arn(arn).repo_name)

    def untag_resource(self, arn: str, tag_keys: list[str]) -> None:
        super().untag_resource(arn, tag_keys)
        self._save(self._parse_resource_arn(arn).repo_name)

    # --- Images

    @_in_aws_words
    def put_image(  # type: ignore[override]  # the store's images take the place of moto's
        self,
        repository_name: str,
        image_manifest: str,
        image_tag: str | None,
        image_manifest_mediatype: str | None = None,
        digest: str | None = None,
    ) -> RegistryImage:
        record = self.record(repository_name)
        manifest = read_pushed(image_manifest.encode(), image_manifest_mediatype or "")
        self.ecr.push(record.name, manifest, tag=image_tag or "", digest=digest or "", again=False)
        return self._found(record.name, manifest.digest, manifest.media_type, manifest.body, image_tag)

    @_in_aws_words
    def batch_get_image(
        self, repository_name: str, registry_id: str | None = None, image_ids: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        record = self.record(repository_name, registry_id)
        images, failures = [], []
        for image_id in image_ids or []:
            digest, tag = image_id.get("imageDigest", ""), image_id.get("imageTag", "")
            try:
                image, body = self.ecr.pull(record.name, digest=digest, tag=tag)
            except (NoSuchImage, FileNotFoundError):
                failures.append(images_api.failure(image_id, "ImageNotFound", "Requested image not found"))
            else:
                images.append(self._found(record.name, image.digest, image.media_type, body, tag or None))
        return {"images": images, "failures": failures}

    @_in_aws_words
    def batch_delete_image(
        self, repository_name: str, registry_id: str | None = None, image_ids: list[dict[str, str]] | None = None
    ) -> dict[str, Any]:
        record = self.record(repository_name, registry_id)
        return images_api.delete(self.ecr.store, record, image_ids or [])

    def start_image_scan(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError("no image is ever scanned")

    @_in_aws_words
    def describe_image_scan_findings(self, registry_id: str, repository_name: str, image_id: dict[str, Any]) -> Any:
        digest, tag = image_id.get("imageDigest", ""), image_id.get("imageTag", "")
        self.record(repository_name, registry_id).find(digest=digest, tag=tag)
        shown = f"{{imageDigest:'{digest or 'null'}', imageTag:'{tag or 'null'}'}}"
        raise ScanNotFoundException(shown, repository_name, self.account_id)

    # --- Layers

    @_in_aws_words
    def initiate_layer_upload(self, repository_name: str, registry_id: str | None = None) -> dict[str, Any]:
        return layers_api.initiate(self.ecr, self.record(repository_name, registry_id).name)

    @_in_aws_words
    def upload_layer_part(
        self,
        repository_name: str,
        upload_id: str,
        part_first_byte: int,
        part_last_byte: int,
        layer_part_blob: bytes,
        registry_id: str | None = None,
    ) -> dict[str, Any]:
        name = self.record(repository_name, registry_id).name
        data = layer_part_blob or b""
        received, accepted = layers_api.upload_part(self.ecr, name, upload_id, part_first_byte, part_last_byte, data)
        if not accepted:
            raise InvalidLayerPartException(self.account_id, repository_name, upload_id, received)
        return {
            "registryId": self.account_id,
            "repositoryName": repository_name,
            "uploadId": upload_id,
            "lastByteReceived": received,
        }

    @_in_aws_words
    def complete_layer_upload(
        self, repository_name: str, upload_id: str, layer_digests: list[str], registry_id: str | None = None
    ) -> dict[str, Any]:
        name = self.record(repository_name, registry_id).name
        digest = layers_api.complete(self.ecr, name, upload_id, layer_digests)
        return {
            "registryId": self.account_id,
            "repositoryName": repository_name,
            "uploadId": upload_id,
            "layerDigest": digest,
        }

    @_in_aws_words
    def batch_check_layer_availability(
        self, repository_name: str, layer_digests: list[str], registry_id: str | None = None
    ) -> dict[str, Any]:
        return layers_api.availability(self.ecr, self.record(repository_name, registry_id).name, layer_digests)

    # --- Lifecycle policies

    @_in_aws_words
    def put_lifecycle_policy(self, registry_id: str, repository_name: str, lifecycle_policy_text: str) -> Any:
        repository = self._get_repository(repository_name, registry_id)
        parse_policy(lifecycle_policy_text)
        repository.lifecycle_policy = lifecycle_policy_text
        self._save(repository_name)
        return {**self._ids(repository_name), "lifecyclePolicyText": lifecycle_policy_text}

    def get_lifecycle_policy(self, registry_id: str, repository_name: str) -> Any:
        return self._evaluated(super().get_lifecycle_policy(registry_id, repository_name))

    def delete_lifecycle_policy(self, registry_id: str, repository_name: str) -> Any:
        answer = self._evaluated(super().delete_lifecycle_policy(registry_id, repository_name))
        self._save(repository_name)
        return answer

    @_in_aws_words
    def start_lifecycle_policy_preview(self, repository_name: str, registry_id: str | None, text: str | None) -> Any:
        record = self.record(repository_name, registry_id)
        text = text or record.settings.get("lifecyclePolicyText")
        if not text:
            raise LifecyclePolicyNotFoundException(repository_name, self.account_id)
        self.previews[repository_name] = lifecycle_api.preview(record, text, self.ecr.clock.now())
        return {**self._ids(repository_name), "lifecyclePolicyText": text, "status": "IN_PROGRESS"}

    def lifecycle_policy_preview(self, repository_name: str, registry_id: str | None) -> lifecycle_api.Preview:
        self.record(repository_name, registry_id)
        if repository_name not in self.previews:
            message = (
                f"Lifecycle policy preview does not exist for the repository with name '{repository_name}' "
                f"in the registry with id '{self.account_id}'"
            )
            raise Refused("LifecyclePolicyPreviewNotFoundException", message)
        return self.previews[repository_name]

    def _evaluated(self, answer: dict[str, Any]) -> dict[str, Any]:
        record = self.record(answer["repositoryName"])
        evaluated = record.settings.get("lifecycleEvaluatedAt")
        del answer["lastEvaluatedAt"]
        return {**answer, "lastEvaluatedAt": datetime.fromisoformat(evaluated)} if evaluated else answer

    # --- Between moto and the store

    def _name(self, repository_name: str) -> EcrName:
        return EcrName(self.account_id, self.region_name, repository_name)

    def _ids(self, repository_name: str) -> dict[str, str]:
        return {"registryId": self.account_id, "repositoryName": repository_name}

    def record(self, repository_name: str, registry_id: str | None = None) -> RepositoryRecord:
        self._get_repository(repository_name, registry_id)
        return self.ecr.store.repository(self._name(repository_name))

    def _found(self, name: EcrName, digest: str, media_type: str, body: bytes, tag: str | None) -> RegistryImage:
        image_id = {"imageDigest": digest, **({"imageTag": tag} if tag else {})}
        return RegistryImage(self.account_id, name.repository, image_id, body.decode(), media_type)

    def _save(self, repository_name: str) -> None:
        record = self.ecr.store.repository(self._name(repository_name))
        settings = self._settings(self.repositories[repository_name])
        self.ecr.store.update(record.name, {**record.settings, **settings})

    def _settings(self, repository: models.Repository) -> dict[str, Any]:
        """What `_restore` needs to make the repository again; JSON."""
        mutability = repository.image_tag_mutability
        return {
            "createdAt": repository.created_at.isoformat(),
            "imageTagMutability": str(getattr(mutability, "value", mutability)),
            "imageTagMutabilityExclusionFilters": repository.image_tag_mutability_exclusion_filters,
            "imageScanningConfiguration": repository.image_scanning_configuration,
            "encryptionConfiguration": repository.encryption_configuration,
            "policyText": repository.policy,
            "lifecyclePolicyText": repository.lifecycle_policy,
            "tags": self.tagger.list_tags_for_resource(repository.arn).get("tags", []),
        }

    def _restore(self, record: RepositoryRecord) -> None:
        settings = record.settings
        repository = models.Repository(  # type: ignore[abstract]  # moto itself makes them so
            self.account_id,
            self.region_name,
            record.name.repository,
            None,
            settings["encryptionConfiguration"],
            settings["imageScanningConfiguration"],
            settings["imageTagMutability"],
            settings["imageTagMutabilityExclusionFilters"],
        )
        repository.created_at = datetime.fromisoformat(settings["createdAt"])
        repository.uri = self.ecr.repository_uri(record.name)
        repository.policy = settings["policyText"]
        repository.lifecycle_policy = settings["lifecyclePolicyText"]
        self.repositories[record.name.repository] = repository
        self.tagger.tag_resource(repository.arn, settings["tags"])


class EcrResponse(ECRResponse):
    """Answers in pages, and the operations that moto lacks."""

    @property
    def ecr_backend(self) -> EcrBackend:
        backend = models.ecr_backends[self.current_account][self.region]
        assert isinstance(backend, EcrBackend)
        return backend

    def describe_repositories(self) -> ActionResult:
        found = self.ecr_backend.describe_repositories(
            repository_names=self._get_param("repositoryNames"), registry_id=self._get_param("registryId")
        )
        return ActionResult(self._page("repositories", found))

    @_in_aws_words
    def list_images(self) -> ActionResult:
        return ActionResult(self._page("imageIds", images_api.ids(self._record(), self._tag_status())))

    @_in_aws_words
    def describe_images(self) -> ActionResult:
        found = images_api.details(self._record(), self._get_param("imageIds"), self._tag_status())
        return ActionResult(self._page("imageDetails", found))

    @_in_aws_words
    def list_image_referrers(self) -> ActionResult:
        digest = self._get_param("subjectId")["imageDigest"]
        artifact_types = self._get_param("filter", {}).get("artifactTypes", [])
        return ActionResult(self._page("referrers", images_api.referrers(self._record(), digest, artifact_types)))

    def get_authorization_token(self) -> ActionResult:
        ecr = self.ecr_backend.ecr
        expires_at = ecr.clock.now() + tokens.VALIDITY
        answers = [
            {
                "authorizationToken": tokens.authorization_token(
                    ecr.store.token_key, tokens.Token(account, self.region, expires_at)
                ),
                "expiresAt": expires_at,
                # Emulation: AWS's is https://<account>.dkr.ecr.<region>.amazonaws.com.
                "proxyEndpoint": f"http://{ecr.address}",
            }
            for account in self._get_param("registryIds") or [self.current_account]
        ]
        return ActionResult({"authorizationData": answers})

    @_in_aws_words
    def get_download_url_for_layer(self) -> ActionResult:  # type: ignore[override]  # moto's only raises
        digest = self._get_param("layerDigest")
        url = layers_api.download_url(self.ecr_backend.ecr, self._record().name, digest)
        return ActionResult({"downloadUrl": url, "layerDigest": digest})

    def start_lifecycle_policy_preview(self) -> ActionResult:
        text = self._get_param("lifecyclePolicyText")
        return ActionResult(self.ecr_backend.start_lifecycle_policy_preview(*self._repository(), text))

    def get_lifecycle_policy_preview(self) -> ActionResult:
        repository_name, registry_id = self._repository()
        preview = self.ecr_backend.lifecycle_policy_preview(repository_name, registry_id)
        shown = lifecycle_api.select(preview, self._get_param("imageIds"), self._tag_status())
        return ActionResult(
            {
                "registryId": self.current_account,
                "repositoryName": repository_name,
                "lifecyclePolicyText": preview.text,
                "status": "COMPLETE",
                **self._page("previewResults", shown),
                "summary": {"expiringImageTotalCount": len(preview.expirations)},
            }
        )

    def _repository(self) -> tuple[str, str | None]:
        return self._get_param("repositoryName"), self._get_param("registryId")

    def _record(self) -> RepositoryRecord:
        return self.ecr_backend.record(*self._repository())

    def _tag_status(self) -> str:
        return str(self._get_param("filter", {}).get("tagStatus", "ANY"))

    def _page(self, key: str, items: list[Any]) -> dict[str, Any]:
        """The items that maxResults and nextToken ask for, with the token of the rest."""
        token = self._get_param("nextToken") or "0"
        if not token.isdecimal():
            message = "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'"
            raise Refused("InvalidParameterException", message)
        start = int(token)
        end = start + int(self._get_param("maxResults") or _MOST_RESULTS)
        rest = {"nextToken": str(end)} if end < len(items) else {}
        return {key: items[start:end], **rest}
