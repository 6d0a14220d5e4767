"""Models and imports in S3, through boto3 and AWS_ENDPOINT_URL."""

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from furui.cli import main
from furui.errors import FuruiError, NotReachable
from furui.store import s3
from furui.store.s3 import S3Models, S3Object
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name, value in {
        "AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    s3._client.cache_clear()
    boto3.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    yield "models"
    objects = boto3.resource("s3").Bucket("models")
    objects.objects.all().delete()
    objects.delete()
    s3._client.cache_clear()


def test_what_train_stores_in_s3_is_what_another_machine_recommends_from(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`train` here, `recommend` there: the examples come from S3, too, and the model from nowhere else."""
    lines = [f"y\trouter packet {n}" for n in range(20)] + [f"n\tlist lambda {n}" for n in range(20)]
    boto3.client("s3").put_object(Bucket=bucket, Key="examples.tsv", Body="\n".join(lines).encode())
    monkeypatch.setenv("MODEL_S3_URI", f"s3://{bucket}/a/model.json")
    assert main(["--dir", str(tmp_path / "one"), "train", "--import", f"s3://{bucket}/examples.tsv"]) == 0
    assert f"to=s3://{bucket}/a/model.json" in capsys.readouterr().out
    assert not (tmp_path / "one" / "model.json").exists()
    (tmp_path / "open.tsv").write_text("\tlist of things\n\trouter of packets\n")
    assert main(["--dir", str(tmp_path / "two"), "import", str(tmp_path / "open.tsv")]) == 0
    assert main(["--dir", str(tmp_path / "two"), "recommend", "--limit", "1"]) == 0
    assert 'text="router of packets"' in capsys.readouterr().out


def test_a_model_is_read_anew_only_when_it_changed(bucket: str) -> None:
    """None before the first; the same object again while the ETag is the same; another one after a training."""
    from furui.model import Model

    models = S3Models(S3Object(bucket, "model.json"))
    assert models.load() is None
    models.save(Model({"a": 1.0}))
    first = models.load()
    assert first is not None and models.load() is first
    S3Models(S3Object(bucket, "model.json")).save(Model({"a": 2.0}))
    second = models.load()
    assert second is not None and second.weights == {"a": 2.0}


def test_what_is_wrong_with_a_place_is_said(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A bucket that does not exist, an object that does not, and a URI that is none: one line each."""
    with pytest.raises(NotReachable, match="NoSuchBucket"):
        S3Object("absent", "key").read()
    assert main(["import", "s3://models/absent.tsv"]) == 2
    assert capsys.readouterr().err == "furui: s3://models/absent.tsv does not exist\n"
    for uri in ("s3://bucket", "s3:///key", "https://bucket/key"):
        with pytest.raises(FuruiError, match="s3://bucket/key"):
            S3Object.from_uri(uri)
