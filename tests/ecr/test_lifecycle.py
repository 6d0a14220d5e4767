"""Lifecycle policies: what they expire, what they refuse, and that they act."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from emulation.ecr.errors import LifecyclePolicyInvalid
from emulation.ecr.lifecycle import Candidate, Policy, Rule, parse_policy, plan_expirations

from .conftest import Repository, Server, digest_of, files_of, sample_image

NOW = datetime(2024, 6, 1, tzinfo=UTC)


def rule(priority: int, status: str = "tagged", number: int = 1, **more: Any) -> dict[str, Any]:
    selection = {"tagStatus": status, "countType": "imageCountMoreThan", "countNumber": number, **more}
    return {"rulePriority": priority, "selection": selection, "action": {"type": "expire"}}


def policy(*rules: dict[str, Any]) -> str:
    return json.dumps({"rules": list(rules)})


def image(name: str, days: int, *tags: str, **more: Any) -> Candidate:
    return Candidate(name, tags, NOW - timedelta(days=days), **more)


def expired(images: list[Candidate], *rules: dict[str, Any]) -> list[str]:
    return [expiration.image.digest for expiration in plan_expirations(images, parse_policy(policy(*rules)), NOW)]


A, B, C = image("A", 10, "beta-1", "prod-1"), image("B", 9, "beta-2", "prod-2"), image("C", 8, "beta-3")


def test_aws_example_a_of_several_rules() -> None:
    """User guide, example A: B is kept by the rule for prod, so the later rule for beta cannot expire it."""
    rules = rule(1, tagPrefixList=["prod"]), rule(2, tagPrefixList=["beta"])
    assert expired([A, B, C], *rules) == ["A"]


def test_aws_example_b_of_several_rules() -> None:
    """User guide, example B: with the rule for beta first, A and B are expired."""
    rules = rule(1, tagPrefixList=["beta"]), rule(2, tagPrefixList=["prod"])
    assert expired([A, B, C], *rules) == ["A", "B"]


def test_all_prefixes_of_a_rule_must_be_met() -> None:
    """User guide: an image is selected only where it has tags for all prefixes, or all patterns, of the rule."""
    both, one = image("both", 2, "alpha-1", "beta-1"), image("one", 3, "alpha-2")
    since = {"countType": "sinceImagePushed", "countUnit": "days"}
    assert expired([both, one], rule(1, tagPrefixList=["alpha", "beta"], **since)) == ["both"]
    assert expired([both, one], rule(1, tagPatternList=["*pha-*", "b*a-1"], **since)) == ["both"]


def test_characters_of_a_pattern_other_than_the_star_mean_themselves() -> None:
    """A prefix with a star, or a pattern with a question mark or bracket, is matched literally."""
    assert expired([image("A", 2, "v1"), image("B", 1, "v2")], rule(1, tagPatternList=["v?"])) == []
    assert expired([image("A", 2, "v1"), image("B", 1, "v2")], rule(1, tagPatternList=["v[12]"])) == []


def test_count_and_age_are_bounds_that_are_kept() -> None:
    """ "More than" keeps the youngest N; an image is expired when it is older than N days, not N days old."""
    images = [image(str(days), days) for days in (1, 2, 3, 4)]
    assert expired(images, rule(1, "untagged", 3)) == ["4"]
    assert expired(images, rule(1, "any", 3, countType="sinceImagePushed", countUnit="days")) == ["4"]


def test_an_image_that_is_pulled_stays() -> None:
    """sinceImagePulled counts from the last pull, or from the push where there was none."""
    pulled = image("pulled", 30, pulled_at=NOW - timedelta(days=1))
    since = rule(1, "any", 5, countType="sinceImagePulled", countUnit="days")
    assert expired([pulled, image("never", 30)], since) == ["never"]


def test_an_image_of_an_index_stays() -> None:
    """An image that an index names cannot be expired before the index."""
    assert expired([image("child", 31, is_child=True), image("alone", 30)], rule(1, "untagged", 1)) == []
    assert expired([image("alone", 31), image("child", 30, is_child=True)], rule(1, "untagged", 1)) == ["alone"]


TAGS = ["prod-1", "prod-2", "beta-1", "beta-2", "x"]
CANDIDATES = st.lists(
    st.builds(
        Candidate,
        st.uuids().map(str),
        st.lists(st.sampled_from(TAGS), unique=True, max_size=3).map(tuple),
        st.integers(0, 40).map(lambda days: NOW - timedelta(days=days)),
    ),
    max_size=12,
    unique_by=lambda candidate: candidate.digest,
)
RULES = st.lists(
    st.builds(
        Rule,
        st.just(0),
        st.sampled_from(["tagged", "untagged", "any"]),
        st.lists(st.sampled_from(["prod*", "beta*", "*-1", "x"]), min_size=1, max_size=2).map(tuple),
        st.sampled_from(["imageCountMoreThan", "sinceImagePushed"]),
        st.integers(1, 5),
    ),
    max_size=4,
).map(lambda rules: Policy(tuple(Rule(n + 1, *_rest(rule)) for n, rule in enumerate(rules))))


def _rest(rule: Rule) -> tuple[str, tuple[str, ...], str, int]:
    return rule.tag_status, rule.tag_patterns, rule.count_type, rule.count_number


@given(CANDIDATES, RULES)
def test_each_image_is_expired_once_and_by_the_first_rule_that_claims_it(
    images: list[Candidate], policy: Policy
) -> None:
    """Never twice, never by a rule after one whose tagging requirements it meets, never one that no rule selects."""
    plan = plan_expirations(images, policy, NOW)
    digests = [expiration.image.digest for expiration in plan]
    assert len(digests) == len(set(digests))
    for expiration in plan:
        claiming = [rule.priority for rule in policy.rules if rule.selects(expiration.image)]
        assert expiration.rule_priority == claiming[0]


@given(CANDIDATES, RULES)
def test_older_images_go_before_younger_ones(images: list[Candidate], policy: Policy) -> None:
    """Of the images that no other rule claims, whatever a rule keeps is at least as young as what it expires."""
    plan = plan_expirations(images, policy, NOW)
    for rule in policy.rules:
        gone = [expiration.image for expiration in plan if expiration.rule_priority == rule.priority]
        earlier = [other for other in policy.rules if other.priority < rule.priority]
        own = [image for image in images if rule.selects(image) and not any(other.selects(image) for other in earlier)]
        kept = [image.pushed_at for image in own if image not in gone]
        assert max((image.pushed_at for image in gone), default=NOW - timedelta(days=99)) <= min(kept, default=NOW)


@given(CANDIDATES, RULES, st.randoms())
def test_the_plan_does_not_depend_on_the_order_of_the_images(
    images: list[Candidate], policy: Policy, random: Any
) -> None:
    """The same repository gives the same plan."""
    shuffled = list(images)
    random.shuffle(shuffled)
    assert {str(e) for e in plan_expirations(images, policy, NOW)} == {
        str(e) for e in plan_expirations(shuffled, policy, NOW)
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "Could not map policyString into LifecyclePolicy."),
        ("[]", "Could not map policyString into LifecyclePolicy."),
        ("{}", 'object has missing required properties (["rules"])'),
        ('{"rules": []}', "1 to 50 rules"),
        ('{"rules": [1]}', 'instance type (integer) does not match any allowed primitive type (allowed: ["object"])'),
        (policy({**rule(1), "more": 1}), 'which are not allowed by the schema: (["more"])'),
        (policy({**rule(1), "action": {"type": "keep"}}), "instance value (keep) not found in enum"),
        (policy({**rule(1), "action": {"type": "transition"}}), "Sunabox does not emulate"),
        (policy(rule(0, "any")), "numeric instance is lower than the required minimum (minimum: 1, found: 0)"),
        (policy(rule(1, "any", 0)), "(minimum: 1, found: 0)"),
        (policy(rule(1, "some")), "instance value (some) not found in enum"),
        (policy(rule(1)), "needs either tagPrefixList or tagPatternList"),
        (policy(rule(1, tagPrefixList=["a"], tagPatternList=["a"])), "needs either tagPrefixList or tagPatternList"),
        (policy(rule(1, "untagged", tagPrefixList=["a"])), "cannot be specified when tagStatus is untagged"),
        (policy(rule(1, tagPatternList=["*a*b*c*d*"])), "at most 4 wildcards"),
        (policy(rule(1, "any", countType="sinceImagePushed")), 'missing required properties (["countUnit"])'),
        (policy(rule(1, "any", countUnit="days")), 'not allowed by the schema: (["countUnit"])'),
        (policy(rule(1, "untagged"), rule(1, "any")), "rulePriority must be unique"),
        (policy(rule(1, "any"), rule(2, "untagged")), "must have the highest rulePriority"),
        (policy(rule(1, "untagged"), rule(2, "untagged")), "only one rule"),
        (policy(rule(1, tagPrefixList=["a"]), rule(2, tagPrefixList=["a"])), "must be unique"),
    ],
)
def test_an_invalid_policy_is_refused_in_aws_words(text: str, words: str) -> None:
    """Each mistake is named."""
    with pytest.raises(LifecyclePolicyInvalid) as caught:
        parse_policy(text)
    assert words in str(caught.value)
    assert "Lifecycle policy validation failure: " in str(caught.value)


def test_a_policy_acts_at_the_next_push(server: Server, repository: Repository) -> None:
    """With "keep one untagged image" a third push under the same tag removes the first image and its blobs."""
    ecr = server.aws()
    text = policy(rule(1, "untagged"))
    ecr.put_lifecycle_policy(repositoryName="app", lifecyclePolicyText=text)
    images = [sample_image(str(number)) for number in range(3)]
    for pushed in images:
        repository.push(pushed, "latest")
        server.advance(timedelta(minutes=1))
    assert repository.request("GET", f"manifests/{images[0].digest}").status_code == 404
    assert repository.request("GET", f"manifests/{images[1].digest}").status_code == 200
    assert digest_of(images[0].layer) not in files_of(server)
    assert "lastEvaluatedAt" in ecr.get_lifecycle_policy(repositoryName="app")


def test_a_policy_acts_as_time_passes(server: Server, repository: Repository) -> None:
    """apply_lifecycle, which the clock calls every hour, expires what has become too old and nothing else."""
    text = policy(rule(1, "any", 7, countType="sinceImagePushed", countUnit="days"))
    server.aws().put_lifecycle_policy(repositoryName="app", lifecyclePolicyText=text)
    repository.push(sample_image("old"), "old")
    server.advance(timedelta(days=5))
    repository.push(sample_image("new"), "new")
    assert server.on_api_thread(server.ecr.apply_lifecycle, server.clock.now()) == {}
    server.advance(timedelta(days=3))
    [expirations] = server.on_api_thread(server.ecr.apply_lifecycle, server.clock.now()).values()
    assert [expiration.cause for expiration in expirations] == ["rule 1 expires images pushed more than 7 days ago"]
    assert repository.request("GET", "tags/list").json()["tags"] == ["new"]


def test_a_preview_shows_and_does_nothing(server: Server, repository: Repository) -> None:
    """StartLifecyclePolicyPreview tells what would be expired, and by which rule; no image goes."""
    ecr = server.aws()
    with pytest.raises(ClientError, match="LifecyclePolicyPreviewNotFoundException"):
        ecr.get_lifecycle_policy_preview(repositoryName="app")
    with pytest.raises(ClientError, match="LifecyclePolicyNotFoundException"):
        ecr.start_lifecycle_policy_preview(repositoryName="app")
    with pytest.raises(ClientError, match="InvalidParameterException.*validation failure"):
        ecr.start_lifecycle_policy_preview(repositoryName="app", lifecyclePolicyText="{}" + " " * 98)
    old = repository.push(sample_image("1"), "v1")
    server.advance(timedelta(minutes=1))
    repository.push(sample_image("2"), "v2")
    text = policy(rule(3, tagPrefixList=["v"]))
    started = ecr.start_lifecycle_policy_preview(repositoryName="app", lifecyclePolicyText=text)
    assert started["status"] == "IN_PROGRESS"
    ecr.get_waiter("lifecycle_policy_preview_complete").wait(repositoryName="app")
    answer = ecr.get_lifecycle_policy_preview(repositoryName="app")
    [result] = answer["previewResults"]
    assert (result["imageDigest"], result["imageTags"], result["appliedRulePriority"]) == (old, ["v1"], 3)
    assert answer["summary"] == {"expiringImageTotalCount": 1}
    assert repository.request("GET", "tags/list").json()["tags"] == ["v1", "v2"]


def test_what_an_unfinished_push_left_is_collected_in_the_end(
    server: Server, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layer that no manifest came for is kept for a while, and collected by the hourly round after that."""
    repository.upload(b"a layer without an image")
    server.on_api_thread(server.ecr.apply_lifecycle, server.clock.now())
    assert files_of(server) == [digest_of(b"a layer without an image")]
    monkeypatch.setattr("emulation.ecr.store._LEASE_SECONDS", 0)
    server.on_api_thread(server.ecr.apply_lifecycle, server.clock.now())
    assert files_of(server) == []
