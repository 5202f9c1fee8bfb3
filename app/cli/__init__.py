"""Every `ponder` command and its views in a terminal."""
