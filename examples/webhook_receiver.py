"""Hears of jobs that have ended: registers a webhook endpoint, tests it, and prints what arrives until Ctrl-C.

TAILOR_WEBHOOK_PRIVATE_ADDRESSES=on make serve
python examples/webhook_receiver.py http://127.0.0.1:8000 ~/.local/share/tailor/api_key
"""

import argparse
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from openai import InvalidWebhookSignatureError, OpenAI


def listen(client: OpenAI, port: int) -> ThreadingHTTPServer:
    """A server that checks signatures and takes each event once, however often it is delivered."""
    seen: set[str] = set()

    class Webhooks(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            try:
                event = client.webhooks.unwrap(body, dict(self.headers))
            except (InvalidWebhookSignatureError, ValueError):  # not from this Tailor, or older than five minutes
                self.send_response(400)
            else:
                if event.id not in seen:
                    seen.add(event.id)
                    print(event.type, getattr(event.data, "id", ""), flush=True)
                self.send_response(204)  # at once: what takes long is done after the answer
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
            """Say nothing of requests."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Webhooks)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Register, test, print, and delete the endpoint at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="where `make serve` listens")
    parser.add_argument("key", type=Path, help="the file with the API key")
    parser.add_argument("--port", type=int, default=0, help="where to listen; left out: any free port")
    options = parser.parse_args()
    client = OpenAI(base_url=f"{options.url}/v1", api_key=options.key.expanduser().read_text().strip())

    server = listen(client, options.port)
    endpoint = client.webhooks.create(
        name="webhook_receiver.py",
        url=f"http://127.0.0.1:{server.server_port}/",
        event_types=["fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled"],
    )
    client.webhook_secret = endpoint.signing_secret
    try:
        answer = client.webhooks.test(endpoint.id, event_type="fine_tuning.job.succeeded")
        print(f"The test was answered with {answer.status_code}. Listening.", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        print("Deleting the endpoint.")
    finally:
        client.webhooks.delete(endpoint.id)
        server.shutdown()


if __name__ == "__main__":
    main()
