"""The doctor in a loop of your own: python examples/doctor/plain_pytorch.py. Here it collapses: nothing stops it."""

import torch
from torch import nn
from torch.nn.functional import cosine_similarity

import emsiam

images = torch.randn(512, 64)
net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32))
sgd = torch.optim.SGD(net.parameters(), lr=0.3)

monitor = emsiam.Monitor(every=20)  # 1
for _ in range(600):
    x = images[torch.randint(512, (128,))]
    z = net(torch.stack([x, x]) + 0.5 * torch.randn(2, *x.shape))  # [views, B, d]
    loss = -cosine_similarity(z[0], z[1]).mean()
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    monitor.update(z)  # 2
print(monitor.report())  # 3
