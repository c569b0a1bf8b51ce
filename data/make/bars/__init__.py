"""The figures that the embedded models must reach. What lies in build/models/ is measured, else what is shipped.

    python data/make/build.py bars                        # everything, under half an hour on two cores
    python data/make/build.py bars --only vae drawn       # some parts; --list names the parts and their bars
    python data/make/build.py bars --share 0.03           # of the pictures and steps: a try in a minute or two

Each bar is a function of no arguments in a table (`BARS` of each module here), printed as a line of `name value bar`.
The probes have learned from renders, damaged renders and reconstructions and never met the generator. Pictures are kept
in build/, so that parts share them and a run that was stopped goes on; another model's are drawn anew.
"""
