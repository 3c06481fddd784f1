"""The control worker's share in uploads: they expire, their bytes go, and a file made of parts is prepared like any."""

from datetime import timedelta

from sqlalchemy import func, update

from app.db import transaction
from app.files import completion, uploads
from app.files.completion import Completion
from app.files.uploads import NewUpload
from app.storage.blobs import put
from app.tables import Blob, File, Upload
from tests.worker.conftest import Bench
from worker.cleaning import Cleaning


def in_parts(bench: Bench, data: bytes) -> tuple[str, list[str]]:
    """A pending upload of two parts."""
    context = bench.context
    halves = [put(context.blobs, [data[:101]]), put(context.blobs, [data[101:]])]
    with transaction(context.sessions) as session:
        new = NewUpload("reviews.jsonl", "fine-tune", len(data))
        upload_id = uploads.create(session, bench.caller, new, context.settings).id
        return upload_id, [uploads.add_part(session, bench.caller, upload_id, half).id for half in halves]


def test_the_control_worker_expires_uploads_and_removes_their_bytes(bench: Bench, rows: str) -> None:
    expiring, _ = in_parts(bench, rows.encode())
    pending, _ = in_parts(bench, rows.encode())
    with transaction(bench.context.sessions) as session:
        session.execute(update(Upload).where(Upload.id == expiring).values(expires_at=func.now()))
        session.execute(update(Blob).values(touched_at=func.now() - timedelta(hours=2)))

    Cleaning(bench.context, lambda: True).clean()

    with transaction(bench.context.sessions) as session:
        statuses = {upload.id: upload.status for upload in session.query(Upload)}
        assert statuses == {expiring: "expired", pending: "pending"}
        assert session.query(Blob).count() == 2


def test_a_file_made_of_parts_is_prepared_like_any_other(bench: Bench, rows: str) -> None:
    context = bench.context
    upload_id, part_ids = in_parts(bench, rows.encode())
    wanted = Completion(part_ids)
    with transaction(context.sessions) as session:
        parts = completion.begin(session, bench.caller, upload_id, wanted)
    blob = completion.assemble(context.sessions, context.blobs, upload_id, parts, wanted)
    with transaction(context.sessions) as session:
        upload, made = completion.publish(session, bench.caller, upload_id, wanted, blob, context.settings)

    bench.run_next("control")

    assert made
    with transaction(context.sessions) as session:
        file = session.get(File, upload.file_id)
        assert (file.status, file.status_details) == ("processed", None)
        assert file.bytes == len(rows)
