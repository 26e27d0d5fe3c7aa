"""What notebooks need and a library of scores does not, a file a notebook or a part of one.

| file | notebook | asks |
| --- | --- | --- |
| ``plots`` | all | how does the study look? |
| ``rankings`` | 02, 03, 04, 08, 12 to 18 | which ranks do scores give, and which examples look alike? |
| ``published`` | 12, 13, 14 | what did the authors publish? |
| ``processes`` | 02, 06, 12, 16 | how do jobs run in processes beside each other? |
| ``overview`` | 00 | what do all scores say of one picture, and what came of all claims? |
| ``linearization`` | 01, 11 | how well does the linearized network foretell what leaving an example out does? |
| ``transfer`` | 01, 02, 11, 12, 14 | which networks were trained on another task? |
| ``unique_information`` | 02, 12 | what does unique information say of an example? |
| ``long_tail`` | 03, 13 | do two sets of estimates agree, and how many pairs are there by chance? |
| ``noise`` | 05, 07, 15, 17 | how else may labels be wrong? |
| ``repeats`` | 05, 14, 15 | how sure are means over networks, and how many test rows would do? |
| ``pairs`` | 03, 13, 15 | which test examples depend on which memorized one? |
| ``pruning`` | 03, 04, 05, 07, 08, 13, 14, 15 | which examples can go, and what does training without them cost? |
| ``craig`` | 14 | which weighted subset stands for all, and what does training on it give? |
| ``dynamics`` | 15 | how do the tangent kernel and error barriers change while a network trains? |
| ``fragility``, ``fragility_plots``, ``iris``, ``response`` | 06, 16 | do influence functions foretell retraining? |
| ``attribution`` | 16 | do attributions, summed over random halves of the data, foretell training on them? |
| ``side_by_side`` | 07, 15, 17 | how do scores rank, whom do they name, what do they find and cost? |
| ``moves`` | all | does a departure explain what we did not find? |
| ``text`` | 12 | what is a review, as an average of word vectors? |
| ``own_data`` | 08, 18 | which scores have one's own examples, and how many can go? |

Bad input raises ``ValueError``, which names the argument, what was expected and what came; a training that diverges
raises ``RuntimeError``.
"""
