"""What moto would only pretend to do. Sunabox answers these operations with an error until it really does them.

An emulator that reports success for what did not happen is worse than none. Each entry leaves the table with the part
of the data plane that makes it true. The keys are AWS's service and operation names, as botocore has them.
"""

from collections.abc import Mapping

NOT_EMULATED: Mapping[str, Mapping[str, str]] = {
    "batch": {
        "SubmitJob": "AWS Batch jobs do not run yet",
        "CreateComputeEnvironment": "compute environments have no capacity yet",
    },
    "elbv2": {
        "CreateTrustStore": "HTTPS listeners are not emulated yet",
        "AddListenerCertificates": "HTTPS listeners are not emulated yet",
    },
    "elb": {"CreateLoadBalancer": "Classic Load Balancers are not emulated; there are Application Load Balancers"},
    "lambda": {
        "Invoke": "functions do not run yet",
        "InvokeAsync": "functions do not run yet",
        "InvokeWithResponseStream": "functions do not run yet",
        "CreateEventSourceMapping": "functions do not run yet",
    },
    "rds": {
        "CreateDBCluster": "DB clusters (Aurora, Multi-AZ) have no servers; DB instances with the engine postgres do",
        "RestoreDBClusterFromSnapshot": "DB clusters have no servers",
        "RestoreDBClusterToPointInTime": "DB clusters have no servers",
        "CreateDBInstanceReadReplica": "nothing is replicated yet",
        "PromoteReadReplica": "nothing is replicated yet",
        "RestoreDBInstanceToPointInTime": "only snapshots can be restored",
        "CopyDBSnapshot": "snapshots are not copied yet; CreateDBSnapshot takes one",
        "CreateGlobalCluster": "DB clusters have no servers",
        "CreateDBProxy": "proxies do not forward",
        "CreateBlueGreenDeployment": "there are no blue/green deployments",
        "CreateDBShardGroup": "DB clusters have no servers",
        "StartExportTask": "snapshots are not exported",
        "AddRoleToDBInstance": "databases do not use IAM roles",
        "CreateDBSecurityGroup": "there is no EC2-Classic; use VPC security groups",
        "DescribeOrderableDBInstanceOptions": "it would list what has no servers",
    },
    "elasticache": {
        "CreateUser": "users and their groups are not emulated yet; AUTH tokens are",
        "CreateUserGroup": "users and their groups are not emulated yet; AUTH tokens are",
        "CreateServerlessCache": "serverless caches are not emulated; CreateReplicationGroup makes real ones",
        "CreateGlobalReplicationGroup": "global datastores are not emulated",
        "CopySnapshot": "snapshots are not copied yet",
        "ModifyReplicationGroupShardConfiguration": "slots are not moved between shards yet",
    },
    "memorydb": {"CreateCluster": "there is no server behind it"},
    "redshift": {"CreateCluster": "there is no server behind it"},
    "cloudformation": {
        "CreateStack": "stacks are not emulated yet",
        "UpdateStack": "stacks are not emulated yet",
        "CreateChangeSet": "stacks are not emulated yet",
        "ExecuteChangeSet": "stacks are not emulated yet",
        "CreateStackSet": "stacks are not emulated yet",
    },
    "application-autoscaling": {
        "PutScalingPolicy": "scaling policies do not act yet",
        "PutScheduledAction": "scheduled actions do not act yet",
    },
    "autoscaling": {
        "CreateAutoScalingGroup": "instances do not boot yet",
        "SetDesiredCapacity": "instances do not boot yet",
    },
    "ec2": {
        "RunInstances": "instances do not boot yet",
        "CreateFleet": "instances do not boot yet",
        "RequestSpotInstances": "instances do not boot yet",
        "RequestSpotFleet": "instances do not boot yet",
    },
    "scheduler": {"CreateSchedule": "schedules do not fire yet"},
    "codedeploy": {"CreateDeployment": "deployments do not happen yet"},
    "codebuild": {"StartBuild": "builds do not run"},
    "emr": {"RunJobFlow": "clusters do not run"},
    "eks": {
        "CreateCluster": "Kubernetes clusters do not run",
        "CreateNodegroup": "Kubernetes clusters do not run",
        "CreateFargateProfile": "Kubernetes clusters do not run",
    },
    "sagemaker": {
        "CreateTrainingJob": "training jobs do not run",
        "CreateEndpoint": "endpoints do not serve",
        "CreateProcessingJob": "processing jobs do not run",
        "CreateTransformJob": "transform jobs do not run",
    },
    "glue": {"StartJobRun": "jobs do not run", "StartCrawler": "crawlers do not run"},
    "ecs": {
        "CreateTaskSet": "task sets and the EXTERNAL deployment controller are not emulated",
        "UpdateTaskSet": "task sets and the EXTERNAL deployment controller are not emulated",
        "UpdateServicePrimaryTaskSet": "task sets and the EXTERNAL deployment controller are not emulated",
        "ListServicesByNamespace": "Service Connect is not emulated",
        "UpdateTaskProtection": "tasks cannot be protected from scaling in yet",
        "StartTask": "there are no container instances yet; RunTask with launch type FARGATE starts tasks",
        "RegisterContainerInstance": "there are no container instances yet",
        "ExecuteCommand": "the Session Manager protocol is not spoken yet",
        "CreateCapacityProvider": "there are no container instances yet; FARGATE and FARGATE_SPOT are there",
    },
}


def why_not(service: str, operation: str, body: bytes) -> str:
    """Why an operation is refused, or ''."""
    if service == "events" and operation == "PutRule" and b'"ScheduleExpression"' in body:
        return "schedules do not fire yet; rules with an event pattern do"
    return NOT_EMULATED.get(service, {}).get(operation, "")
