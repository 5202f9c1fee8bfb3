"""FLOPs of every architecture, by arithmetic on the sizes in a model's config. Imports neither torch nor an engine.

config.py     looks sizes up in a Hugging Face config, under all the names that they have there
layers.py     what one layer costs, and how often a token attends to a position
attention.py  softmax attention: grouped heads, latent attention
recurrent.py  layers with a state of fixed size: Mamba, gated delta nets, short convolutions
mlp.py        gated and plain MLPs, experts
decoder.py    which layer of a model is of which kind; the families that are counted
vision.py     the tower that reads images, and its projector
estimate.py   of a model that nobody knows: from its number of parameters
"""
