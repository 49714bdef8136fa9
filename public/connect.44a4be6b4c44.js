/* connect.js 1: connect an account in a pop-up. See docs/connect-js.md.

   The pop-up ends at your return_url, a page of your own origin that loads this file, too. There the one-time code goes
   to the page that waits, by postMessage to that origin alone. Not from the portal's page to its opener: any page on the
   way may cut them apart (Cross-Origin-Opener-Policy); pages of one origin find each other all the same. */
"use strict";

globalThis.Portal ??= (() => {
  const PORTAL = new URL(document.currentScript.src).origin;
  const NAME = "portal-connect";
  const failure = (code, cause) => Object.assign(new Error(`Nothing was connected: ${code}`, { cause }), { code });

  let waiting; // The one attempt that this page waits for.

  const connect = ({ session, redirect = matchMedia("(hover: none) and (pointer: coarse)").matches }) => {
    if (waiting && !waiting.popup?.closed) {
      waiting.popup?.focus();
      return waiting.promise;
    }
    waiting?.end(failure("closed"));
    const attempt = (waiting = {});
    // Before any request: only now does the browser know that a click asked for it.
    const popup = (attempt.popup = redirect ? null : openPopup());
    attempt.promise = new Promise((resolve, reject) => {
      const { stop } = listen(({ result }, answer) => {
        if (!result || result.connect_session !== attempt.id) return;
        answer({ taken: attempt.id });
        attempt.end(result.error && failure(result.error), result);
      });
      const watch = setInterval(() => {
        // One that was cut off from us looks closed, too; but then it has the focus.
        if (popup?.closed && document.hasFocus()) attempt.end(failure("closed"));
      }, 500);
      attempt.end = (error, result) => {
        clearInterval(watch);
        stop();
        if (waiting === attempt) waiting = null;
        if (error) popup?.close();
        error ? reject(error) : resolve(result);
      };
    });
    askFor(session).then(({ id, url }) => {
      if (waiting !== attempt) return;
      attempt.id = id;
      if (popup) return popup.location.replace(url);
      sessionStorage.setItem(NAME, id);
      location.assign(url);
    }).catch((cause) => attempt.end(failure("bad_session", cause)));
    return attempt.promise;
  };

  const openPopup = () => {
    const left = screenX + outerWidth / 2 - 260, top = screenY + outerHeight / 2 - 380;
    const popup = open("", "_blank", `popup,width=520,height=760,left=${left},top=${top}`);
    if (!popup || popup.closed) return null; // Blocked.
    popup.document.title = popup.document.body.textContent = "One moment …";
    popup.document.documentElement.style.colorScheme = "light dark";
    return popup;
  };

  const askFor = async (session) => {
    const given = await (session.call ? session() : fetch(session, { method: "POST" }).then((it) => it.json()));
    if (!given.id || new URL(given.url).origin !== PORTAL) throw new Error("not a connect session");
    return given;
  };

  // Talk with pages of this origin: with the opener or, where that is cut off, over a channel.
  const listen = (hear) => {
    const channel = new BroadcastChannel(NAME);
    // A channel is of one origin, and ignores the second argument.
    const say = (message, to = channel) => to.postMessage({ [NAME]: message }, location.origin);
    const heard = ({ origin, source, data }) => {
      if (origin === location.origin && data?.[NAME]) hear(data[NAME], (answer) => say(answer, source ?? channel));
    };
    channel.onmessage = heard;
    addEventListener("message", heard);
    return { say, stop: () => (channel.close(), removeEventListener("message", heard)) };
  };

  const comeBack = async () => {
    const url = new URL(location), query = url.searchParams;
    const id = query.get("connect_session"), code = query.get("code");
    if (!id) return null;
    const result = { connect_session: id, ...(code ? { code } : { error: query.get("connect_error") ?? "closed" }) };
    ["connect_session", "code", "connect_error"].forEach((name) => query.delete(name));
    history.replaceState(history.state, "", url); // Reload and Back bring no spent code.
    // After a redirect nobody waits.
    if (sessionStorage.getItem(NAME) !== id && (await handOver(result))) return null;
    if (result.error) throw failure(result.error);
    return result;
  };

  // Tell whether a page took the result; then this window closes.
  const handOver = (result) => new Promise((resolve) => {
    const { say, stop } = listen(({ taken }) => taken === result.connect_session && done(true));
    const done = (isTaken) => {
      stop();
      if (isTaken) close();
      resolve(isTaken);
    };
    say({ result });
    if (opener) say({ result }, opener);
    setTimeout(done, 1000, false);
  });

  const back = comeBack();
  back.catch(() => {});
  addEventListener("pageshow", ({ persisted }) => persisted && waiting?.end(failure("closed")));
  return { connect, returned: () => back };
})();
