from twisted.internet.task import Clock

from mailstack.net.deadline import Deadline


class TestDeadline:
    def setup_method(self) -> None:
        self.clock = Clock()
        self.reached: list[float] = []
        self.deadline = Deadline(self.clock, lambda: self.reached.append(self.clock.seconds()))

    def at(self, seconds: float) -> list[float]:
        """When it was reached, up to then."""
        while self.clock.seconds() < seconds:
            self.clock.advance(0.5)
        return self.reached

    def test_reached_once(self) -> None:
        self.deadline.set(2)
        assert self.at(1.5) == []
        assert self.at(10) == [2]

    def test_put_off(self) -> None:
        self.deadline.set(2)
        self.at(1)
        self.deadline.set(5)
        assert self.at(5.5) == []
        assert self.at(10) == [6]

    def test_put_off_often_has_one_timer(self) -> None:
        for second in range(1, 100):
            self.deadline.set(5)
            assert len(self.clock.getDelayedCalls()) == 1
            self.at(second)
        assert self.at(200) == [103]

    def test_brought_forward(self) -> None:
        self.deadline.set(300)
        self.at(1)
        self.deadline.set(2)
        assert len(self.clock.getDelayedCalls()) == 1
        assert self.at(400) == [3]

    def test_canceled_and_set_again(self) -> None:
        self.deadline.set(2)
        self.deadline.cancel()
        self.deadline.cancel()
        assert self.at(3) == []
        assert self.clock.getDelayedCalls() == []
        self.deadline.set(2)
        assert self.at(10) == [5]

    def test_set_by_what_it_calls(self) -> None:
        self.deadline = Deadline(self.clock, self.again)
        self.deadline.set(1)
        assert self.at(8) == [1, 4, 7]

    def again(self) -> None:
        self.reached.append(self.clock.seconds())
        self.deadline.set(3)
