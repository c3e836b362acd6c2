"""A store on S3 on loopback: moto's server, which checks keys."""

import contextlib
import threading
from collections.abc import Iterator

BUCKET = "ept"


class Store:
    """A bucket behind `endpoint`, with the key that it admits."""

    def __init__(self, endpoint: str):
        self.endpoint, self.key, self.secret = endpoint, "", ""

    def url(self, name: str) -> str:
        """The URL of a remote of its own, for DVC."""
        return f"s3://{BUCKET}/{name}"

    @property
    def options(self) -> dict[str, str]:
        """The remote's options for DVC."""
        return {"endpointurl": self.endpoint, "access_key_id": self.key, "secret_access_key": self.secret}


@contextlib.contextmanager
def serving() -> Iterator[Store]:
    """Serve until the block ends."""
    import boto3
    import requests
    from moto import settings
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    store = Store(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        # moto keeps its users and buckets in this process, whichever server made them.
        requests.post(f"{store.endpoint}/moto-api/reset", timeout=30).raise_for_status()
        session = boto3.Session("AKIATEST", "secret", region_name="us-east-1")
        session.client("s3", endpoint_url=store.endpoint).create_bucket(Bucket=BUCKET)
        iam = session.client("iam", endpoint_url=store.endpoint)
        iam.create_user(UserName="ept")
        policy = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
        iam.put_user_policy(UserName="ept", PolicyName="all", PolicyDocument=policy)
        key = iam.create_access_key(UserName="ept")["AccessKey"]
        store.key, store.secret = key["AccessKeyId"], key["SecretAccessKey"]
        # From here on every request is checked.
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        yield store
    finally:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        server.shutdown()
