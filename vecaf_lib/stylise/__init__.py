"""CLIPstyler (Kwon and Ye, CVPR 2022): training images moved to a target domain by a prompt.

The baseline of Table 3 that changes pixels where VeCAF changes embeddings. Theirs trains one U-Net
for one image, 200 steps each, which does not scale to a pool. Here, in the shared form, one U-Net
is trained for a prompt over many images of the pool and then applied to each.
"""
