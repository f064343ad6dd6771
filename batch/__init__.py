"""AWS Batch: what a run costs before it is submitted, its submission, how it fares, and its infrastructure.

It computes no voxel: the containers run `driver.py`, with the same options as anywhere else.
"""
