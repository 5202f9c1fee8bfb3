"""What `adapters.training` is given by the service: arithmetic of FLOPs, models that answer, rules that judge, a terminal."""
