"""The doctor in Hugging Face's Trainer: Trainer(…, callbacks=[Doctor("projector")]), by a hook on a module of yours."""

from transformers import TrainerCallback

import emsiam


class Doctor(TrainerCallback):
    """Looks at what the module of a name gives in training: z [B, d]."""

    def __init__(self, name: str, every: int = 100):
        self.name, self.monitor = name, emsiam.Monitor(every)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        watched = model.get_submodule(self.name)
        self.hook = watched.register_forward_hook(lambda m, given, z: self.monitor.update(z) if m.training else None)

    def on_train_end(self, args, state, control, **kwargs):
        self.hook.remove()
        print(self.monitor.report())
