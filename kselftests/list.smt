# What is run in an emulated host of two cores with two threads each; see the file
# list for the form.  QEMU's alone: the code is the same on both platforms.

smt_test required		# a core has one owner
