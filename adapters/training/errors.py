"""What can go wrong before and while something is trained; the commands print the message in one line.

TrainingError
+-- DataRefused     the data cannot be trained on; the message names file and line
+-- RecipeRefused   the parameters do not fit the model, or not the run that is in the folder already
+-- PruningRefused  there is no such smaller model
+-- MachineRefused  this machine cannot do it: no space, no memory, no instructions for it
+-- TeacherGone     the model that answers has stopped answering; what it answered is kept
+-- Unanswerable    it refuses this one question
"""


class TrainingError(Exception):
    """Base of all; the message is written for whoever started the command."""


class DataRefused(TrainingError):
    """The data cannot be trained on."""


class RecipeRefused(TrainingError):
    """The parameters do not fit the model, or not the run that is in the folder already."""


class PruningRefused(TrainingError):
    """There is no such smaller model."""


class MachineRefused(TrainingError):
    """This machine cannot do it."""


class TeacherGone(TrainingError):
    """The model that answers has stopped answering."""


class Unanswerable(TrainingError):
    """The model that answers refuses this one question."""
