"""The doctor in PyTorch Lightning: Trainer(callbacks=[Doctor()]), where `training_step` returns z beside the loss."""

from pytorch_lightning import Callback

import emsiam


class Doctor(Callback):
    """Looks at outputs["z"], [B, d] or [views, B, d], and at outputs["p"] where it is there."""

    def __init__(self, every: int = 100):
        self.monitor = emsiam.Monitor(every)

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.monitor.update(outputs["z"], outputs.get("p"))
        last = self.monitor.looks[-1]
        module.log_dict({"z_std_ratio": last.z_std_ratio, "participation_ratio": last.participation_ratio})

    def on_train_end(self, trainer, module):
        print(self.monitor.report())
