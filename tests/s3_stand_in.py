"""A store on S3 on loopback: moto's server, which checks keys and can break off."""

import contextlib
import threading
from collections.abc import Iterator

BUCKET = "ept"


class Store:
    """A bucket behind `endpoint`, with the key that it admits."""

    def __init__(self, application, endpoint: str):
        self.endpoint, self.key, self.secret = endpoint, "", ""
        self._application = application
        self._lock = threading.Lock()
        self._method, self._left = "", 0

    @contextlib.contextmanager
    def breaking_off(self, method: str, after: int) -> Iterator[None]:
        """So many objects can still be sent (PUT) or fetched (GET). The next one that is fetched ends in its middle,
        all others are answered with 503.
        """
        self._method, self._left = method, after
        try:
            yield
        finally:
            self._method = ""

    def __call__(self, environment, start_response):
        left = self._objects_left(environment)
        if left >= 0:
            return self._application(environment, start_response)
        if environment["REQUEST_METHOD"] == "GET" and left == -1:
            # The header announces the whole object; the connection is closed after each answer.
            content = b"".join(self._application(environment, start_response))
            return [content[: len(content) // 2]]
        # What the client still sends must be read, or it sees a reset instead of the answer.
        environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
        start_response("503 Service Unavailable", [("Content-Length", "0")])
        return [b""]

    def _objects_left(self, environment) -> int:
        """After this request; below nothing when it comes too late."""
        is_object = environment["PATH_INFO"].strip("/") != BUCKET
        with self._lock:
            if environment["REQUEST_METHOD"] != self._method or not is_object:
                return 0
            self._left -= 1
            return self._left

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

    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, lambda *request: store(*request), threaded=True)
    store = Store(application, f"http://127.0.0.1:{server.server_port}")
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
