"""Does the doctor tell what has happened to a representation? Its truth, written before its rule.

Three questions are asked of z and of p at every look at a run, by top-1 accuracy: of 20 neighbours and of ridge
regression, on channels that are centred and standardised, after BN statistics were re-estimated from the training
images, of trained and of untrained weights alike. On digits kNN compares each of all 1,797 images with all others.

Images are lost: kNN or linear accuracy is 3 points or more below that of the same output of the same network before
its first step. Kept: neither is more than 1 point below. Looks in between are left out and counted.
Constant: s = std·√d of unit vectors, with batch statistics, is below 0.1. This is a definition: after standardising,
kNN sees through a constant offset.
Will be lost: images of z are not lost now, and are at four times the steps of the same run, at the same learning rate.

Labels are read for the truth alone. The rule is chosen on digits and shapes, and its errors are reported on
Fashion-MNIST and mnist5k; then the pairs are exchanged. Sets are never split by seed or by step. The unit is the run:
intervals are by bootstrap over runs. Seeds are 200 to 202; networks of other widths have seeds 200 and 201 only.

What is trained is in experiments/doctor/cases.py. Beside it there are synthetic arrays (made.py), for which the right
answer is known.
"""
