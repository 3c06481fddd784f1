"""Tell listeners of job events and of progress.

Triggers, so that no writer can forget to. One notification a job and statement, and PostgreSQL folds equal ones of a
transaction into one.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        """
        CREATE FUNCTION notify_job_events() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_notify('job_news', job_id) FROM (SELECT DISTINCT job_id FROM inserted) AS jobs;
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER notify_job_events AFTER INSERT ON job_events
        REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION notify_job_events()
        """
    )
    op.execute(
        """
        CREATE FUNCTION notify_job_progress() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_notify('job_news', NEW.id);
            RETURN NULL;
        END $$
        """
    )
    op.execute(
        """
        CREATE TRIGGER notify_job_progress AFTER UPDATE OF progress ON jobs
        FOR EACH ROW WHEN (OLD.progress IS DISTINCT FROM NEW.progress) EXECUTE FUNCTION notify_job_progress()
        """
    )


def downgrade() -> None:
    op.execute("DROP TRIGGER notify_job_progress ON jobs")
    op.execute("DROP FUNCTION notify_job_progress()")
    op.execute("DROP TRIGGER notify_job_events ON job_events")
    op.execute("DROP FUNCTION notify_job_events()")
