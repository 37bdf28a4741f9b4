"""Names and defaults that modules with PyTorch in them hold, for a command line that answers without it.

Made by `python docs/generate.py`; a test holds it to what it is made from.
"""

from typing import Any

# fmt: off
METHODS: dict[str, dict[str, Any]] = {'onestep': {'predictor': 'mlp',
             'stop_grad': True,
             'bn': 'default',
             'k': 1,
             'reads': {}},
 'multistep': {'predictor': 'mlp',
               'stop_grad': True,
               'bn': 'default',
               'k': 10,
               'reads': {}},
 'ema_eta': {'predictor': 'none',
             'stop_grad': True,
             'bn': 'default',
             'k': 1,
             'reads': {'m': 0.8, 'bank': 'device', 'bank_dtype': 'fp32'}},
 'expectation': {'predictor': 'mlp',
                 'stop_grad': True,
                 'bn': 'default',
                 'k': 1,
                 'reads': {'n': 4}},
 'byol': {'predictor': 'mlp',
          'stop_grad': True,
          'bn': 'default',
          'k': 1,
          'reads': {'tau': 0.99, 'tau_schedule': 'cosine'}},
 'simclr': {'predictor': 'none',
            'stop_grad': False,
            'bn': 'default',
            'k': 1,
            'reads': {'temperature': 0.2}},
 'moco': {'predictor': 'none',
          'stop_grad': True,
          'bn': 'default',
          'k': 1,
          'reads': {'tau': 0.99,
                    'queue': 65536,
                    'shuffle_bn': 1,
                    'temperature': 0.2}},
 'swav': {'predictor': 'none',
          'stop_grad': True,
          'bn': 'default',
          'k': 1,
          'reads': {'temperature': 0.1}},
 'vicreg': {'predictor': 'none',
            'stop_grad': False,
            'bn': 'hidden',
            'k': 1,
            'reads': {}},
 'barlow': {'predictor': 'none',
            'stop_grad': False,
            'bn': 'hidden',
            'k': 1,
            'reads': {}},
 'sigreg': {'predictor': 'none',
            'stop_grad': False,
            'bn': 'hidden',
            'k': 1,
            'reads': {}}}
SOLVERS: dict[str, dict[str, Any]] = {'sinkhorn_codes': {},
 'momentum_encoder': {'tau': 0.99, 'tau_schedule': 'cosine'},
 'momentum_queue': {'tau': 0.99, 'queue': 65536, 'shuffle_bn': 1},
 'other_view': {},
 'expectation': {'n': 4},
 'moving_average': {'m': 0.8, 'bank': 'device', 'bank_dtype': 'fp32'}}
DATASETS = ('digits',
 'shapes',
 'mnist5k',
 'mnist',
 'fashion_mnist',
 'cifar10',
 'cifar100',
 'stl10',
 'folder',
 'given')
SIMILARITIES = ('cosine', 'cross_entropy', 'mse')
SYMMETRIES = ('sym', 'asym', 'asym2x')
BANK_DTYPES = ('fp32', 'bf16', 'fp16')
SCHEDULES = ('cosine', 'constant')
STEMS = ('cifar', 'imagenet')
PREDICTORS = ('mlp', 'none', 'fixed', 'linear', 'directpred', 'directcopy')
BN = ('default', 'none', 'hidden', 'all')
TASKS: dict[str, dict[str, Any]] = {'knn': {'does': 'k nearest neighbours by cosine',
         'reads': {'knn_k': 20, 'knn_t': 0.1}},
 'linear': {'does': 'linear classification of frozen features',
            'reads': {'protocol': 'exact', 'epochs': None, 'seed': 0}},
 'episodes': {'does': 'n-way k-shot episodes on test images, by the nearest '
                      'class mean',
              'reads': {'ways': 5, 'shots': 1, 'seed': 0}},
 'verify': {'does': 'are two test images of one class? ROC-AUC of their cosine',
            'reads': {'seed': 0}}}
PROTOCOLS = ('exact', 'ridge', 'lars', 'sgd')
EPOCHS = ('lars', 'sgd')
FEATURES = ('backbone', 'hidden', 'z', 'p')
