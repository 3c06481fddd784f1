"""One module for each method of adaptation: its options, what it serves and what it does not go together with."""
