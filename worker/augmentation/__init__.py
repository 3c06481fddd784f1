"""Changed copies of records: texts as words, ways to change them, and what must stay."""
