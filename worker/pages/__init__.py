"""Pages of HTML that need nothing else: no script, no style sheet, no picture file."""
