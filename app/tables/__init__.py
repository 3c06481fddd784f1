"""All tables. Every time is the database's clock; every row of a client belongs to a project."""

from app.tables.base import Base as Base
from app.tables.base import Json as Json
from app.tables.base import new_id as new_id
from app.tables.blobs import Blob as Blob
from app.tables.blobs import BlobChunk as BlobChunk
from app.tables.files import File as File
from app.tables.files import Preparation as Preparation
from app.tables.jobs import JOB_STATUSES as JOB_STATUSES
from app.tables.jobs import TERMINAL_STATUSES as TERMINAL_STATUSES
from app.tables.jobs import IdempotentRequest as IdempotentRequest
from app.tables.jobs import Job as Job
from app.tables.jobs import JobEvent as JobEvent
from app.tables.jobs import JobMetric as JobMetric
from app.tables.jobs import Worker as Worker
from app.tables.models import MODEL_STATUSES as MODEL_STATUSES
from app.tables.models import Checkpoint as Checkpoint
from app.tables.models import Model as Model
from app.tables.models import StoredFile as StoredFile
from app.tables.projects import ApiKey as ApiKey
from app.tables.projects import Project as Project
