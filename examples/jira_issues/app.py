"""A small application whose users connect their Atlassian account and see their Jira issues.

    PORTAL=http://127.0.0.1:8000 PORTAL_KEY=dpk_… PORT=8002 python examples/jira_issues/app.py

CONNECT_JS and CONNECT_JS_INTEGRITY name one edition of connect.js, as the code on the portal's page *Connect* does.
One Django file, without a database: who is signed in, and which connect sessions were made for them, is in a signed cookie.
"""

import json
import os
import secrets
import sys
from functools import wraps
from pathlib import Path

import requests
from connections import PortalError, finish, issues, manage_link, open_session, token
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponseForbidden, JsonResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_GET, require_POST

PORT = int(os.environ.get("PORT", "8002"))
HERE = f"http://127.0.0.1:{PORT}"

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("SECRET_KEY") or secrets.token_urlsafe(50),
    # Cookies know no ports: the portal on this machine has a "session", too.
    SESSION_COOKIE_NAME="example_session",
    CSRF_COOKIE_NAME="example_csrf",
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "DIRS": [Path(__file__).parent / "templates"],
        }
    ],
)

# Without them: whatever the portal has just now, unchecked.
CONNECT_JS = os.environ.get("CONNECT_JS", "connect.js")
CONNECT_JS_INTEGRITY = os.environ.get("CONNECT_JS_INTEGRITY", "")
# As many attempts as may be open at a time, in several tabs.
SESSIONS_KEPT = 5


def signed_in(view):
    """Let only a user of ours through, as `user`."""

    @wraps(view)
    def wrapped(request):
        user = request.session.get("user")
        return view(request, user) if user else HttpResponseForbidden("Sign in first.")

    return wrapped


@require_GET
def home(request):
    """Show the one page: signing in, connecting, or the issues."""
    user = request.session.get("user")
    page = {"user": user, "portal": os.environ["PORTAL"], "said": request.session.pop("said", "")}
    page |= {"connect_js": CONNECT_JS, "integrity": CONNECT_JS_INTEGRITY}
    if user:
        page |= look(user)
    return render(request, "page.html", page)


def look(user):
    """Return what the page shows of a user's connection."""
    try:
        return {"is_connected": True, "issues": issues(token(user))}
    except PortalError as error:
        # Not confirmed: they connected and never came back to us with the code, so they begin anew.
        if error.code in {"not_found", "revoked", "not_confirmed"}:
            return {"button": "Connect Atlassian"}
        if error.code == "needs_reconnect":
            return {"button": "Connect Atlassian again", "problem": str(error)}
        # Everything else passes, or somebody has to see to it at the portal; `code` says which.
        return {"is_connected": True, "problem": str(error)}
    except requests.RequestException:
        return {"is_connected": True, "problem": "Jira did not answer. Try again in a moment."}


@require_POST
def sign_in(request):
    """Believe whoever comes who they are. Your application has a real one."""
    request.session.flush()
    request.session["user"] = request.POST.get("user", "").strip()[:50]
    return redirect("/")


@require_POST
@signed_in
def connect_session(request, user):
    """Make a connect session for the user who is signed in; connect.js leads the pop-up there."""
    return JsonResponse(new_session(request, user, return_url=f"{HERE}/"))


@require_POST
@signed_in
def connect_finish(request, user):
    """Take what connect.js brought back."""
    result = json.loads(request.body)
    if not is_kept(request, result.get("connect_session")):
        return HttpResponseForbidden("This was not started here.")
    return JsonResponse({"status": finish(user, result.get("code", ""))["status"]})


@require_POST
@signed_in
def connect_link(request, user):
    """Do the same without JavaScript: go to the portal, and come back to `connect_back`."""
    return redirect(new_session(request, user, return_url=f"{HERE}/connect/back")["url"])


@require_GET
@signed_in
def connect_back(request, user):
    """Come back from the portal with a code, or with the reason why there is none."""
    said = ""
    if not is_kept(request, request.GET.get("connect_session")):
        said = "This was finished before, or not started here."
    elif "code" not in request.GET:
        said = "Nothing was connected."
    else:
        try:
            finish(user, request.GET["code"])
        except PortalError:
            said = "That did not work. Please try again."
    request.session["said"] = said
    return redirect("/")


@require_POST
@signed_in
def connections(request, user):
    """Send the user to the portal's page of what they have connected, where they can disconnect it."""
    return redirect(manage_link(user, return_url=f"{HERE}/"))


def new_session(request, user, *, return_url):
    """Make a connect session, and keep its id: only what was begun by this very user is finished for them."""
    made = open_session(user, return_url=return_url)
    request.session["connecting"] = [*request.session.get("connecting", []), made["id"]][-SESSIONS_KEPT:]
    return {"id": made["id"], "url": made["url"]}


def is_kept(request, session_id):
    """Tell whether this user has begun this connect session here; each is good once."""
    kept = request.session.get("connecting", [])
    request.session["connecting"] = [each for each in kept if each != session_id]
    return session_id in kept


urlpatterns = [
    path("", home),
    path("sign-in", sign_in),
    path("connect/session", connect_session),
    path("connect/finish", connect_finish),
    path("connect/link", connect_link),
    path("connect/back", connect_back),
    path("connections", connections),
]
application = get_wsgi_application()

if __name__ == "__main__":
    print(f"The example is at {HERE}", flush=True)
    execute_from_command_line([sys.argv[0], "runserver", "--noreload", f"127.0.0.1:{PORT}"])
