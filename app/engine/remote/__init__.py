"""An engine over replicas: servers of the same model that generate tokens elsewhere (`app.engine.replica` is their port).

engine.py       the `Engine` itself: renders here, generates there
vllm_server.py  a replica that is vLLM's own server
connection.py   HTTP to such a server, with limits
routes.py       what such a server is sent            events.py   what it streams
checks.py       what a replica may answer to a branch
joining.py      what is checked of a replica before it gets branches
fleet.py        the replicas of one model, and their health
member.py       one of them: its state, its branches, and who waits for it
placement.py    which replica a branch goes to
journey.py      one branch that goes on elsewhere when its replica fails
adapters.py     adapters on all replicas
pages.py        the metrics of all replicas on one page
discovery.py    from what the operator names to the addresses of replicas
options.py      what an operator can set
"""
