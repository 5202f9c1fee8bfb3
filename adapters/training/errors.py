"""What can go wrong before and while something is trained; the commands print the message in one line.

TrainingError +-- DataRefused     the data cannot be trained on; the message names file and line +-- RecipeRefused   the
parameters do not fit the model, or not the run that is in the folder already +-- PruningRefused  the model cannot be
pruned to these sizes +-- MachineRefused  this machine cannot do it: the disk is too small, or the processor cannot
compute in 4 bits, or a server does not start +-- TeacherGone     the model that answers has stopped answering; its
answers up to then are kept +-- Unanswerable    the model that answers refuses this one question
"""


class TrainingError(Exception):
    """Base of all errors of training. The message is written for the user of the command."""


class DataRefused(TrainingError):
    """The data cannot be trained on."""


class RecipeRefused(TrainingError):
    """The parameters do not fit the model, or not the run that is in the folder already."""


class PruningRefused(TrainingError):
    """The model cannot be pruned to these sizes."""


class MachineRefused(TrainingError):
    """This machine cannot do it; the message says what is missing."""


class TeacherGone(TrainingError):
    """The model that answers has stopped answering."""


class Unanswerable(TrainingError):
    """The model that answers refuses this one question."""
