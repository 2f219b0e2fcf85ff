"""An S3 server with the buckets that are named, empty. Prints its port, and runs until it is killed."""

import sys
import threading

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

# One request at a time: moto looks whether an object is there and puts it in two steps, so that of two
# create-only puts at once both would win.
application = DomainDispatcherApplication(create_backend_app)
server = make_server("127.0.0.1", 0, application, threaded=False)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = boto3.client(
    "s3",
    endpoint_url=f"http://127.0.0.1:{server.port}",
    region_name="us-east-1",
    aws_access_key_id="somebody",
    aws_secret_access_key="secret",
)
for bucket in sys.argv[1:]:
    client.create_bucket(Bucket=bucket)
print("port", server.port, flush=True)
threading.Event().wait()
