"""Replicas on Ray: engines that Ray Serve places, scales and heals, and that branches reach without its router.

messages.py    what crosses to a replica and back
server.py      a replica's end: the branches of several front ends, one batch of tokens for each step of its engine
replica.py     a front end's end: a `Replica` behind such messages
discovery.py   the replicas that Ray Serve runs
scaling.py     how many replicas there shall be
deployment.py  what Ray runs: an engine, and what Ray Serve sees of it
cluster.py     starts Ray, deploys, and takes down again

Only the last two import Ray.
"""
