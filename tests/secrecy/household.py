"""A router and a sleepy child behind it, which share a key: what each of them may know."""
from stack import AE_ID, StackError

APPLICATION, KEY = "household", "network-key-of-the-household"
DEVICE = ("--key-timeout", "5000", "--report", "0x0402/0/s16/2150/0.4")
HOLDERS = ("memory:router", "memory:child", "memory:mefkey-child")


class Household:
    def __init__(self, story):
        self.story, self.stack, self.key = story, story.stack, None

    def move_in(self):
        """The router joins at the gateway, the child through it: its key comes in a tunnel. It is to rejoin before long."""
        self.stack.must("PUT", f"/v1/applications/{APPLICATION}", {"keyScope": "application", "members": [AE_ID]})
        self.router_eui, self.router = self._join("router", "router", "--parent", "0000")
        parent = self._event(self.router, "open")["short"]
        self.rejoin = self.story.rng.choice(("secured", "trust-centre"))
        self.child_eui, self.child = self._join("child", "joiner", "--parent", parent, "--sleepy", "--rejoin", self.rejoin,
                                                "--rejoin-after", "12")
        self._event(self.router, "tunnel", eui64=self.child_eui)
        self.story.ae("get", self.child_eui, "--out", self.story.work / "household.ae")
        if bytes.fromhex((self.story.work / "household.ae").read_text()) != self.key:
            raise StackError("the AE's key is not the household's")
        self.follow = self.stack.follow(self.child_eui)
        self.follow.name = "mefkey-child"
        self._event(self.follow, None, cluster=0x0402)
        self.story.planter.started("router", "child", "mefkey-child")

    def _join(self, name: str, program: str, *options) -> tuple:
        """Until it has a link key of its own, which came into the vault meanwhile; nobody else has one made now."""
        story, eui, code, out = self.story, self.story.eui64(), self.story.install_code(), self.story.work / f"{name}.key"
        story.take_revealed()
        story.code_secrets(name, code, f"memory:{name}")
        self.stack.register_code(eui, code.hex(), application=APPLICATION)
        story.registered.append(eui)
        process = self.stack.join(eui, code.hex(), *DEVICE, "--key-out", out, *options, program=program)
        process.name = name
        self._event(process, "link-key", verified=True)
        self.stack.wait_state(eui, "enrolled")
        self._took_key(bytes.fromhex(out.read_text()))
        story.take_revealed(f"memory:{name}")
        own = [x for x in story.search.secrets.values() if x.holders == {f"memory:{name}"} and x.name.startswith("vault-")]
        link_keys = [x for x in own if x.name.endswith("-link-key")]
        if not link_keys:
            raise StackError(f"no link key of the {name}'s own came into the vault")
        link_keys[-1].wanted.add(f"memory:{name}")
        return eui, process

    def _took_key(self, key: bytes):
        if self.key not in (None, key):
            raise StackError("the devices of the household have different keys")
        self.key = key
        self.story.secret(KEY, key, *HOLDERS, wanted=HOLDERS)

    @staticmethod
    def _event(process, name: str | None, **more) -> dict:
        wanted = more if name is None else {"event": name, **more}
        event = next((e for e in process.history if wanted.items() <= e.items()), None) or process.wait_event(20, **wanted)
        if event is None:
            raise StackError(f"{process.name}: no {wanted}\n{process.tail()}")
        return event

    def move_out(self):
        """The child has rejoined; it is removed through the router, and the router by the gateway. With the last of them goes the
        key: nobody has it any more."""
        self._event(self.child, "rejoined", secured=self.rejoin == "secured")
        self.stack.must("POST", f"/v1/devices/{self.child_eui}/revoke", {})
        self._event(self.router, "remove-device", eui64=self.child_eui)
        self._event(self.child, "told-to-leave")
        self.stack.must("POST", f"/v1/devices/{self.router_eui}/revoke", {})
        self._event(self.router, "told-to-leave")
        for p in (self.child, self.router, self.follow):
            p.stop()
            self.stack.processes.remove(p)
        kept = self.story.search.secrets[KEY]
        kept.wanted, kept.holders = set(), set()
