"""Networks, and the frames and masks that go through them: tensors in, tensors out. No files here."""
