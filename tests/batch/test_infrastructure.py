"""The templates: free of complaints, creatable, with no right more than they say, and in step with the code."""

from __future__ import annotations

import base64
import email.policy
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.session import get_session
from botocore.validate import ParamValidator

from batch.requests import SECRET_VARIABLE
from batch.retry import COMPUTE, Compute, retry_strategy
from batch.submission import BUCKET_TAG, RESULTS_TAG
from nd_synapse.pipeline import registry
from tests.batch.fixtures import SECRET_ARN
from tests.conftest import REPOSITORY
from tests.fixtures_s3 import S3Server
from tests.markdown import code, section, tables

TEMPLATE = REPOSITORY / "batch" / "infrastructure.yaml"
DEFINITION = REPOSITORY / "batch" / "job_definition.json"

# whose resource AWS offers no smaller than all, or which take something away from everybody
EVERYTHING = {
    "ecr:GetAuthorizationToken": "the log-in to ECR is the account's",
    "s3:*": "denied, to anyone without TLS",
}
JOBS: dict[Compute, str] = {"EC2": "Ec2Job", "FARGATE": "FargateJob"}


class _Loader(yaml.SafeLoader):
    """Reads the short forms of CloudFormation's functions as plain mappings."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    assert isinstance(node, yaml.SequenceNode)
    return {name: loader.construct_sequence(node, deep=True)}


_Loader.add_multi_constructor("!", _function)


@cache
def template() -> dict[str, Any]:
    """Return the template."""
    return dict(yaml.load(TEMPLATE.read_text(encoding="utf-8"), _Loader))


def resources() -> dict[str, dict[str, Any]]:
    """Return its resources, by name."""
    return dict(template()["Resources"])


def statements() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield all statements of all policies, with the name of their resource."""
    for name, resource in resources().items():
        properties = resource.get("Properties", {})
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        documents += [properties[key] for key in ("PolicyDocument",) if key in properties]
        for document in documents:
            for statement in document["Statement"]:
                yield name, statement


def several(value: Any) -> list[Any]:
    """Return a value that may stand for itself or for several as a list."""
    return value if isinstance(value, list) else [value]


@pytest.mark.slow
def test_cfn_lint_finds_nothing() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--non-zero-exit-code", "informational", str(TEMPLATE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_template_uses_nothing_of_yaml_that_cloudformation_does_not_read() -> None:
    """Aliases and merges are read by cfn-lint and by PyYAML, and refused by CloudFormation."""
    text = TEMPLATE.read_text(encoding="utf-8")
    events = list(yaml.parse(text, yaml.SafeLoader))
    assert not [event for event in events if isinstance(event, yaml.AliasEvent)]
    assert not re.search(r"^\s*<<:", text, re.MULTILINE)


def test_no_right_is_granted_on_everything_but_those_that_say_why() -> None:
    for name, statement in statements():
        for action in several(statement["Action"]):
            assert "*" not in action or (statement["Effect"] == "Deny" and action in EVERYTHING), (name, action)
            for resource in several(statement["Resource"]):
                assert resource != "*" or action in EVERYTHING, (name, action)


def test_the_job_may_do_in_s3_what_it_does_and_nothing_else() -> None:
    rights = {
        statement["Sid"]: set(several(statement["Action"])) for name, statement in statements() if name == "JobRole"
    }
    assert rights == {
        "ShareFinishedBlocks": {"s3:GetObject", "s3:PutObject"},
        "ListBlocksAndResults": {"s3:ListBucket"},
        "UploadResults": {"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"},
    }


def test_volumes_in_s3_are_read_and_nothing_else_is_done_to_them() -> None:
    (reading,) = (statement for name, statement in statements() if name == "Sources")
    assert (set(reading["Action"]), reading["Resource"]) == ({"s3:GetObject", "s3:ListBucket"}, {"Ref": "SourceArns"})
    assert resources()["Sources"]["Condition"] == "HasSources"
    assert resources()["Sources"]["Properties"]["Roles"] == [{"Ref": "JobRole"}]


def test_every_right_is_reviewed_in_the_document_on_security_and_none_is_there_that_is_not_granted() -> None:
    role_of = {
        "ExecutionRole": "ExecutionRole",
        "JobRole": "JobRole",
        "FurtherSecrets": "ExecutionRole",
        "Sources": "JobRole",
    }
    granted = {
        (role_of[name], action)
        for name, statement in statements()
        if statement["Effect"] == "Allow"
        for action in several(statement["Action"])
    }
    (rows,) = tables(section(REPOSITORY / "docs" / "security.md", "Rights of the roles in the cloud"))
    reviewed, role = set(), ""
    for row in rows:
        role = row[0] or role
        reviewed |= {(role, action) for action in code(row[1]) if ":" in action}
    assert reviewed == granted


def test_the_job_may_not_read_the_secret_itself() -> None:
    readers = {
        name for name, statement in statements() if "secretsmanager:GetSecretValue" in several(statement["Action"])
    }
    assert readers == {"ExecutionRole", "FurtherSecrets"}
    assert resources()["FurtherSecrets"]["Properties"]["Roles"] == [{"Ref": "ExecutionRole"}]


def test_results_of_every_pipeline_may_be_uploaded() -> None:
    """The results key begins with the pipeline's name."""
    (upload,) = (statement for _, statement in statements() if statement.get("Sid") == "UploadResults")
    paths = [resource["Fn::Sub"].removeprefix("${Bucket.Arn}/") for resource in upload["Resource"]]
    assert paths == [*(f"{name}_*" for name in sorted(registry.names())), "${OwnPipelinePrefix}*"]
    (listing,) = (statement for _, statement in statements() if statement.get("Sid") == "ListBlocksAndResults")
    prefixes = listing["Condition"]["StringLike"]["s3:prefix"]
    assert [prefix if isinstance(prefix, str) else prefix["Fn::Sub"] for prefix in prefixes] == ["runs/*", *paths]
    for job in JOBS.values():
        tags = resources()[job]["Properties"]["Tags"]
        assert tags[BUCKET_TAG] == {"Ref": "Bucket"}
        assert tags[RESULTS_TAG]["Fn::Sub"].split() == [path.removesuffix("*") for path in paths]


@pytest.mark.parametrize("compute", COMPUTE)
def test_rules_of_retrying_are_those_of_the_code(compute: Compute) -> None:
    found = resources()[JOBS[compute]]["Properties"]["RetryStrategy"]
    assert _lower_first(found) == retry_strategy(compute)


def test_the_job_definition_for_other_infrastructures_is_that_of_the_template() -> None:
    """But for names, which there are placeholders."""
    alone = json.loads(DEFINITION.read_text(encoding="utf-8"))
    ours = _lower_first(resources()["Ec2Job"]["Properties"])
    # CloudFormation's own, and what the stack says of its bucket
    del ours["resourceRetentionPolicy"], ours["tags"]
    assert set(alone) == set(ours)
    for key in ("type", "platformCapabilities", "propagateTags", "timeout", "retryStrategy"):
        assert alone[key] == ours[key], key
    container, of_template = alone["containerProperties"], ours["containerProperties"]
    assert set(container) == set(of_template)
    for key in ("command", "resourceRequirements", "privileged", "readonlyRootFilesystem", "volumes", "mountPoints"):
        assert container[key] == of_template[key], key
    for key in ("environment", "secrets"):
        assert [one["name"] for one in container[key]] == [one["name"] for one in of_template[key]], key


def test_batch_takes_the_job_definition() -> None:
    shape = get_session().get_service_model("batch").operation_model("RegisterJobDefinition").input_shape
    report = ParamValidator().validate(json.loads(DEFINITION.read_text(encoding="utf-8")), shape)
    assert report.generate_report() == ""


@pytest.mark.parametrize("compute", COMPUTE)
def test_containers_get_the_token_as_a_secret_and_can_write_to_two_folders(compute: Compute) -> None:
    container = resources()[JOBS[compute]]["Properties"]["ContainerProperties"]
    assert container["Secrets"] == [{"Name": SECRET_VARIABLE, "ValueFrom": {"Ref": "BossToken"}}]
    assert SECRET_VARIABLE not in [variable["Name"] for variable in container["Environment"]]
    assert container["ReadonlyRootFilesystem"] is True
    volumes = re.findall(r"^VOLUME (.+)$", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    assert {mount["ContainerPath"] for mount in container["MountPoints"]} == set(volumes[0].split())


@pytest.mark.parametrize("compute", COMPUTE)
def test_a_new_image_leaves_the_revision_active_with_which_runs_were_submitted(compute: Compute) -> None:
    """They could not be resumed otherwise."""
    policy = resources()[JOBS[compute]]["Properties"]["ResourceRetentionPolicy"]
    assert policy == {"SkipDeregisterOnUpdate": True}


def test_machines_are_small_so_that_few_containers_share_a_disk() -> None:
    types = template()["Parameters"]["InstanceTypes"]["Default"].split(", ")
    assert {name.partition(".")[2] for name in types} == {"xlarge", "2xlarge", "4xlarge"}


def the_script_of_machines() -> str:
    """Return what machines run at each boot, out of the archive that is their user data."""
    data = resources()["Machine"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]
    archive = email.message_from_string(data, policy=email.policy.default)
    # what Batch takes, and adds its own parts to
    assert (archive["MIME-Version"], archive.get_content_type()) == ("1.0", "multipart/mixed")
    assert archive.defects == []
    (part,) = archive.iter_parts()
    assert part.get_content_type() == "text/cloud-boothook"
    return str(part.get_payload())


def test_containers_cannot_take_the_role_of_their_machine(tmp_path: Path) -> None:
    """Batch starts them in the network of the machine, where its metadata service is one hop away."""
    metadata = resources()["Machine"]["Properties"]["LaunchTemplateData"]["MetadataOptions"]
    assert metadata == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpProtocolIpv6": "disabled"}
    (user,) = re.findall(r"^USER (\d+):", (REPOSITORY / "Dockerfile").read_text(), re.MULTILINE)
    to = "--destination 169.254.169.254 --match owner --uid-owner"
    rule = f"iptables --wait 60 --insert OUTPUT {to} {user} --jump DROP"
    script = the_script_of_machines()
    assert script.startswith("#!/bin/bash\n")
    # what the shell makes of it, with programs that note how they are called
    for status, wanted in {0: [rule], 1: [rule, "systemctl mask --now ecs"]}.items():
        noted = tmp_path / f"noted-{status}"
        iptables = f'iptables() {{ echo "iptables $*" >> {noted}; return {status}; }}'
        systemctl = f'systemctl() {{ echo "systemctl $*" >> {noted}; }}'
        subprocess.run(["bash", "-c", f"{iptables}\n{systemctl}\n{script}"], check=True, timeout=20)
        assert noted.read_text().splitlines() == wanted


@pytest.mark.parametrize("compute", COMPUTE)
def test_containers_run_as_the_user_of_the_image(compute: Compute) -> None:
    """Machines hold back that one alone."""
    container = resources()[JOBS[compute]]["Properties"]["ContainerProperties"]
    assert "User" not in container
    assert container["Privileged"] is False


def test_the_bucket_is_closed_to_the_public() -> None:
    closed = resources()["Bucket"]["Properties"]["PublicAccessBlockConfiguration"]
    assert closed == dict.fromkeys(
        ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"], True
    )


def test_the_bucket_forgets_runs_and_what_was_half_uploaded_but_no_results() -> None:
    rules = resources()["Bucket"]["Properties"]["LifecycleConfiguration"]["Rules"]
    expiring = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert expiring == {"runs/": {"Ref": "RunRetentionDays"}}
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)


def test_the_secret_has_no_value_in_the_template() -> None:
    """Who may describe a stack could read it."""
    assert set(resources()["BossToken"]["Properties"]) == {"Description"}


def _lower_first(value: Any) -> Any:
    """Write keys as the API of Batch does."""
    if isinstance(value, dict):
        return {
            key if key.startswith(("awslogs", "Fn::")) else key[0].lower() + key[1:]: _lower_first(inner)
            for key, inner in value.items()
        }
    return [_lower_first(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def stack(s3_server: S3Server) -> Iterator[dict[str, str]]:
    """Create the stack, with its network, and return its outputs."""
    s3_server.reset()
    ec2, iam, formation = (client(s3_server, name) for name in ("ec2", "iam", "cloudformation"))
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    # create_service_linked_role of moto gives it a name that AWS does not
    iam.create_role(
        RoleName="AWSServiceRoleForBatch",
        Path="/aws-service-role/batch.amazonaws.com/",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}),
    )
    # moto takes a list apart that is given, but not the one that is the default
    types = template()["Parameters"]["InstanceTypes"]["Default"].replace(" ", "")
    network = {"VpcId": vpc, "SubnetIds": subnet}
    parameters = {**network, "ImageTag": "0.1.0", "InstanceTypes": types, "FurtherSecretArns": SECRET_ARN}
    parameters["SourceArns"] = "arn:aws:s3:::lab,arn:aws:s3:::lab/volumes/*"
    formation.create_stack(
        StackName="nd",
        TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM"],
    )
    (described,) = formation.describe_stacks(StackName="nd")["Stacks"]
    assert described["StackStatus"] == "CREATE_COMPLETE"
    yield {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}
    s3_server.reset()


def client(server: S3Server, service: str) -> Any:
    """Return a client of a service of moto's server."""
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    return boto3.session.Session(**keys).client(service, region_name="us-east-1", endpoint_url=server.url)


class TestStack:
    """What is there after it was created."""

    def test_queues_take_spot_first_and_then_machines_on_demand(
        self, stack: dict[str, str], s3_server: S3Server
    ) -> None:
        batch = client(s3_server, "batch")
        kinds = {
            environment["computeEnvironmentArn"]: environment["computeResources"]["type"]
            for environment in batch.describe_compute_environments()["computeEnvironments"]
        }
        queues = batch.describe_job_queues(jobQueues=[stack["Ec2Queue"], stack["FargateQueue"]])["jobQueues"]
        orders = {
            queue["jobQueueName"]: [
                kinds[one["computeEnvironment"]]
                for one in sorted(queue["computeEnvironmentOrder"], key=lambda one: one["order"])
            ]
            for queue in queues
        }
        assert orders == {"nd-ec2": ["SPOT", "EC2"], "nd-fargate": ["FARGATE_SPOT", "FARGATE"]}

    def test_job_definitions_run_the_image_of_the_repository(self, stack: dict[str, str], s3_server: S3Server) -> None:
        batch = client(s3_server, "batch")
        for output in ("Ec2JobDefinition", "FargateJobDefinition"):
            (found,) = batch.describe_job_definitions(jobDefinitionName=stack[output])["jobDefinitions"]
            container = found["containerProperties"]
            assert container["image"] == f"{stack['Repository']}:0.1.0"
            assert {"name": "RESULTS_BUCKET", "value": stack["Bucket"]} in container["environment"]
            assert container["logConfiguration"]["options"]["awslogs-group"] == stack["LogGroup"]

    def test_machines_have_the_script(self, stack: dict[str, str], s3_server: S3Server) -> None:
        assert stack
        ec2 = client(s3_server, "ec2")
        (template,) = ec2.describe_launch_templates()["LaunchTemplates"]
        (version,) = ec2.describe_launch_template_versions(LaunchTemplateId=template["LaunchTemplateId"])[
            "LaunchTemplateVersions"
        ]
        held = base64.b64decode(version["LaunchTemplateData"]["UserData"]).decode()
        assert the_script_of_machines().strip() in held

    def test_the_bucket_is_encrypted(self, stack: dict[str, str], s3_server: S3Server) -> None:
        answer = s3_server.client().get_bucket_encryption(Bucket=stack["Bucket"])
        (encrypted,) = answer["ServerSideEncryptionConfiguration"]["Rules"]
        assert encrypted["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"

    def test_logs_are_kept_for_as_long_as_was_asked(self, stack: dict[str, str], s3_server: S3Server) -> None:
        (group,) = client(s3_server, "logs").describe_log_groups(logGroupNamePrefix=stack["LogGroup"])["logGroups"]
        assert group["retentionInDays"] == 30
