"""The commands of ``nd-synapse``: their options, and what each calls."""
