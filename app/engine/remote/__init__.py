"""An engine over replicas: servers of the same model that generate tokens elsewhere (`app.engine.replica` is their port).

engine.py       the `Engine` itself: renders here, generates there
vllm_server.py  a replica of vLLM's own server     events.py   what such a server streams
checks.py       what it may answer to a branch
joining.py      what is checked of a replica before it gets branches
fleet.py        the replicas there are, and their health
placement.py    which replica a branch goes to
journey.py      one branch that goes on elsewhere when its replica fails
adapters.py     adapters on all replicas
discovery.py    from what the operator names to the addresses of replicas
"""
