"""Tests of the container image, in a Docker engine; ``make test-image`` builds it and runs them."""
