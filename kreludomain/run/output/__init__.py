"""Tables, figures and text on the screen."""
