"""The images of a conversation: from data URLs and remote hosts to decoded pictures, within the operator's limits.

loading.py   replaces the image parts of a conversation by decoded images
fetching.py  reads images from the hosts that the operator allows
processes.py decodes the files of a request in a process of its own
decoding.py  decodes data URLs and image files
"""
