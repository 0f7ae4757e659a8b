"""Every operation that the client's model knows."""

import botocore
import pytest
from botocore.exceptions import ClientError

ARN = "arn:aws:s3vectors:us-east-1:000000000000:bucket/not-there/index/nothing"
NAMES = {"vectorBucketName": "not-there", "indexName": "nothing", "resourceArn": ARN}


def operations():
    return sorted(botocore.session.get_session().get_service_model("s3vectors").operation_names)


def test_the_model_is_the_one_that_is_covered():
    assert len(operations()) == 22


@pytest.mark.parametrize("operation", operations())
def test_every_operation_is_served(s3, operation):
    """About what is not there, each says so in one of its own errors, or that something is missing, or does it."""
    model = s3.meta.service_model.operation_model(operation)
    arguments = {name: value for name, value in NAMES.items() if name in model.input_shape.members}
    if operation == "CreateVectorBucket":
        arguments["vectorBucketName"] = "made-by-an-operation"
    try:
        getattr(s3, botocore.xform_name(operation))(**arguments)
    except ClientError as error:
        own = {shape.metadata.get("error", {}).get("code", shape.name) for shape in model.error_shapes}
        assert error.response["Error"]["Code"] in own, error
