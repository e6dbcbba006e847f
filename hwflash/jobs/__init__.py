"""What a technician or a bench runs; the one room that composes the rooms below it."""
