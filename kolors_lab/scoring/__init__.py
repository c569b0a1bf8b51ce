"""How good a picture is: the challenge's aesthetic score, prompt fit and likeness."""
