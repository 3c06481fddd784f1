"""Backups: one file with everything a database of Tailor holds, readable by every later release.

Rows travel by COPY, and the schema is made by the migrations. Measured on two cores with 2.1 GB of blobs: 13 s and
2.1 GB this way. `pg_dump -Fc` writes every byte of a blob as two characters: 25 s and 4.2 GB, or 76 s and 2.5 GB
compressed. `pg_basebackup` took 11 s and 2.4 GB, but only the same major version of PostgreSQL reads the result. Nor is
a client program needed, whose version would have to fit the server's.
"""

from app.backup.archive import BackupError as BackupError
