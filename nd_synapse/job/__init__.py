"""A job: its steps, its plan, its result folder, its manifest, its delivery, its verification."""
