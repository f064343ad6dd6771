"""A run beside the images that it was computed from, in neuroglancer: what is shown, and the server of it."""
