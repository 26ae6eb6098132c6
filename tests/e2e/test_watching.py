"""What watchers hear: every change, in full, and as the last word the truth."""

import contextlib
import itertools

import pytest

from adsum.wire.frames import CODECS, Codec
from adsum.wire.messages import Op, Request, Response
from adsum.wire.protobuf import UserStatus, decode_tips, encode_watch
from tests.support.client import BINARY, Client, client, frame, metric_is, raw
from tests.support.service import RunningService

FLAGS = ("--max-watched-per-connection=10", "--max-connections-per-user=100")

pytestmark = pytest.mark.asyncio(loop_scope="module")

IOS, ANDROID, WINDOWS, WEB = 1, 2, 3, 5
JS = CODECS[2]


async def caught_up(service: RunningService, watcher: Client, marker: str) -> None:
    """Wait until a watcher heard of all that was done before: a change made only now is what it hears next."""
    await watcher.watch(marker)
    async with client(service, marker):
        await watcher.hears(marker, IOS)


async def test_several_platforms_of_one_user(service: RunningService) -> None:
    """Each push has the full list, ascending; offline is an empty one."""
    async with client(service, "several-watcher") as watcher:
        assert await watcher.watch("several") == {"several": ()}
        async with client(service, "several", WEB) as web:
            await watcher.hears("several", WEB)
            async with client(service, "several", IOS):
                await watcher.hears("several", IOS, WEB)
                async with client(service, "several", WINDOWS):
                    await watcher.hears("several", IOS, WINDOWS, WEB)
                await watcher.hears("several", IOS, WEB)
                web.drop()
                await watcher.hears("several", IOS)
        await watcher.hears("several")
        assert watcher.pushes_of("several") == [(5,), (1, 5), (1, 3, 5), (1, 5), (1,), ()]


async def test_the_same_platform_twice(service: RunningService) -> None:
    """While one of two connections on a platform lives, watchers hear nothing."""
    async with client(service, "twice-watcher") as watcher, client(service, "twice") as second:
        assert await watcher.watch("twice") == {"twice": (IOS,)}
        async with client(service, "twice"):
            pass
        async with client(service, "twice") as third:
            await second.close()
            await caught_up(service, watcher, "twice-marker")
            third.drop()
            await watcher.hears("twice")
        assert watcher.pushes_of("twice") == [()]


async def test_ten_quick_reconnects(service: RunningService) -> None:
    """However the changes are put together, the last word is true, and no word repeats the one before."""
    async with client(service, "quick-watcher") as watcher:
        await watcher.watch("quick")
        for _ in range(10):
            async with client(service, "quick"):
                pass
        await caught_up(service, watcher, "quick-marker")
        pushes = [(), *watcher.pushes_of("quick")]
        assert pushes[-1] == ()
        assert all(before != after for before, after in itertools.pairwise(pushes))


async def test_watchers_of_all_codecs_hear_the_same(service: RunningService) -> None:
    async with (
        client(service, "w0", codec=CODECS[0]) as go,
        client(service, "w1", codec=CODECS[1]) as go_gzip,
        client(service, "w2", codec=CODECS[2]) as js,
        client(service, "w3", codec=CODECS[3]) as js_gzip,
    ):
        watchers = (go, go_gzip, js, js_gzip)
        for watcher in watchers:
            await watcher.watch("all-codecs")
        async with client(service, "all-codecs"):
            for watcher in watchers:
                await watcher.hears("all-codecs", IOS)
        for watcher in watchers:
            await watcher.hears("all-codecs")
            assert watcher.pushes_of("all-codecs") == [(IOS,), ()]


async def test_watching_oneself(service: RunningService) -> None:
    async with client(service, "self") as one:
        assert await one.watch("self") == {"self": (IOS,)}
        async with client(service, "self", ANDROID) as other:
            await one.hears("self", IOS, ANDROID)
            assert await other.watch("self") == {"self": (IOS, ANDROID)}
        await one.hears("self", IOS)


async def test_a_subscribe_answer_names_every_user_asked(service: RunningService) -> None:
    """In the order asked, once each; those watched already too."""
    async with client(service, "here", WINDOWS), client(service, "here", WEB), client(service, "asker") as asker:
        asked = ["away", "here", "nobody", "away", "here"]
        response = await asker.ask(Op.WATCH, encode_watch(asked))
        told = [(status.user_id, status.platform_ids) for status in decode_tips(response.data)]
        assert told == [("away", ()), ("here", (WINDOWS, WEB)), ("nobody", ())]
        assert await asker.watch("nobody", "here") == {"nobody": (), "here": (WINDOWS, WEB)}


@pytest.mark.parametrize("codec", CODECS, ids=str)
@pytest.mark.parametrize("user_id", ["ü", "用户", "👩‍🚀🇩🇪", "a\tb\n", "<&>\u2028", '"\\', "x" * 256, "ü" * 128, "\0"])
async def test_any_text_is_a_user(service: RunningService, codec: Codec, user_id: str) -> None:
    async with client(service, "unicode-watcher", codec=codec) as watcher:
        assert await watcher.watch(user_id) == {user_id: ()}
        async with client(service, user_id, codec=codec):
            await watcher.hears(user_id, IOS)
        await watcher.hears(user_id)


async def test_text_in_no_normal_form_names_users_of_its_own(service: RunningService) -> None:
    """IDs are compared as they are: neither case nor Unicode's equivalence makes two users one."""
    twins = ["Ä", "ä", "A\u0308", " Ä", "Ä "]
    async with client(service, "twin-watcher") as watcher, client(service, "Ä"):
        assert await watcher.watch(*twins) == {twin: (IOS,) if twin == "Ä" else () for twin in twins}


@pytest.mark.parametrize("user_id", ["", "x" * 257, "ü" * 129])
async def test_a_bad_user_id_refuses_the_whole_request(service: RunningService, user_id: str) -> None:
    """Nothing of it is done, and what was watched before stays."""
    async with client(service, "strict-watcher") as watcher:
        await watcher.watch("strict-old")
        response = await watcher.ask(Op.WATCH, encode_watch(["strict-new", user_id], ["strict-old"]))
        assert response.err_code == 1001
        async with client(service, "strict-new"), client(service, "strict-old"):
            await watcher.hears("strict-old", IOS)
        await caught_up(service, watcher, "strict-marker")
        assert not watcher.pushes_of("strict-new")


async def test_unwatched_users_are_heard_of_no_more(service: RunningService) -> None:
    async with client(service, "fickle") as watcher, client(service, "dull") as dull:
        await watcher.watch("dull", "fun")
        await watcher.watch("also", drop=["dull", "never-watched", ""])
        await dull.close()
        async with client(service, "dull", WEB):
            await caught_up(service, watcher, "fickle-marker")
        assert not watcher.pushes_of("dull")
        async with client(service, "fun"):
            await watcher.hears("fun", IOS)
        assert await watcher.watch("dull") == {"dull": ()}


async def test_a_user_in_both_lists_is_watched(service: RunningService) -> None:
    async with client(service, "unsure") as watcher:
        await watcher.watch("both")
        assert await watcher.watch("both", drop=["both"]) == {"both": ()}
        async with client(service, "both"):
            await watcher.hears("both", IOS)


async def test_no_more_users_than_configured_are_watched(service: RunningService) -> None:
    """Those watched already count once, and unwatching makes room for the next request."""
    users = [f"limit-{number}" for number in range(10)]
    async with client(service, "collector") as watcher:
        await watcher.watch(*users[:9])
        await watcher.watch(*users)
        await watcher.watch(*users)
        response = await watcher.ask(Op.WATCH, encode_watch(["one-more"]))
        assert response.err_code == 1001
        assert "can watch 10 users" in response.err_msg
        async with client(service, users[0]):
            await watcher.hears(users[0], IOS)
        await watcher.watch(drop=users[:1])
        assert await watcher.watch("one-more") == {"one-more": ()}


async def test_a_request_may_replace_one_user_by_another_at_the_limit(service: RunningService) -> None:
    """What a request drops makes room for what it adds."""
    users = [f"swap-{number}" for number in range(10)]
    async with client(service, "swapper") as watcher:
        await watcher.watch(*users)
        assert await watcher.watch("swap-new", drop=users[:1]) == {"swap-new": ()}


async def test_requests_act_in_the_order_sent(service: RunningService) -> None:
    """Also those that arrive in one piece: the last one on a user decides, and the limit counts them all."""
    asked = (
        encode_watch(["rapid-a"]),
        encode_watch([], ["rapid-a"]),
        encode_watch(["rapid-a"]),
        encode_watch([f"rapid-{number}" for number in range(10)], ["rapid-a"]),
        encode_watch(["rapid-b"]),
    )
    async with raw(service) as one, client(service, "rapid-9"):
        await one.upgrade(service.url("rapid"))
        requests = [Request(Op.WATCH, "", "rapid", "op", str(number), data) for number, data in enumerate(asked)]
        await one.send(b"".join(frame(BINARY, CODECS[0].encode_request(request)) for request in requests))
        answers: dict[str, Response] = {}
        while len(answers) < len(asked):
            opcode, payload = await one.next_frame()
            assert opcode == BINARY
            response = CODECS[0].decode_response(payload, 100_000)
            answers[response.msg_incr] = response
        assert [answers[str(number)].err_code for number in range(5)] == [0, 0, 0, 0, 1001]
        assert decode_tips(answers["3"].data)[9] == UserStatus("rapid-9", (IOS,))
        await metric_is(service, "adsum_watched_users", 10)


async def test_a_new_connection_watches_nobody(service: RunningService) -> None:
    """Clients subscribe again after a reconnect, as OpenIM's do."""
    async with client(service, "forgetful") as watcher:
        await watcher.watch("forgotten")
    async with client(service, "forgetful") as watcher, client(service, "forgotten"):
        await caught_up(service, watcher, "forgetful-marker")
        assert not watcher.pushes_of("forgotten")
        await metric_is(service, "adsum_watched_users", 1)


async def test_connections_of_one_user_watch_each_for_itself(service: RunningService) -> None:
    async with client(service, "pair") as one, client(service, "pair", WEB, JS) as other:
        await one.watch("pairs-friend")
        async with client(service, "pairs-friend"):
            await one.hears("pairs-friend", IOS)
        await caught_up(service, other, "pairs-marker")
        assert not other.pushes_of("pairs-friend")


async def test_a_hundred_connections_that_come_at_once(service: RunningService) -> None:
    """Of one user, on one platform: one online, and one offline when the last leaves."""
    async with client(service, "many-watcher") as watcher:
        await watcher.watch("many")
        async with contextlib.AsyncExitStack() as stack:
            many = [await stack.enter_async_context(client(service, "many")) for _ in range(100)]
            for one in many:
                one.drop()
        await watcher.hears("many")
        await caught_up(service, watcher, "many-marker")
        assert watcher.pushes_of("many") == [(IOS,), ()]
