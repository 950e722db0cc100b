import { useEffect, useState } from "preact/hooks";
import { post, request, told } from "./api";
import { mishap, resume } from "./outbox";
import { SlidePage } from "./slide-page";
import {
  announced,
  asked,
  failure,
  list,
  loadList,
  loadSession,
  refused,
  route,
  session,
} from "./state";
import { type Language, language, setLanguage, t } from "./strings";
import { TasksPage } from "./tasks-page";
import type { Session } from "./types";
import { WorklistPage } from "./worklist-page";

export function App() {
  useEffect(() => void loadSession(), []);
  const who = session.value;
  const ready = who !== null && (who.reader !== null || who.read_only);
  // Whose review it is shows in the list: it is read again for each reader.
  useEffect(() => {
    if (ready) void loadList();
  }, [ready, who?.reader?.id]);
  // What an earlier page could not send goes first thing, of whatever slide.
  useEffect(() => {
    if (who?.reader && !who.read_only) resume(who.store, who.reader.id);
  }, [who?.reader?.id]);
  if (refused.value) return <Message text={t("noAccess")} />;
  if (!who) return <Message text={failure.value ?? t("loading")} retry={failure.value !== null} />;
  if (!ready) return <NameDialog who={who} />;
  return (
    <>
      <button type="button" class="skip" onClick={toMain}>
        {t("skip")}
      </button>
      <Header who={who} />
      {who.read_only && <p class="banner">{t("readOnly")}</p>}
      {failure.value && (
        <p class="banner bad" role="alert">
          {t("error", { text: failure.value })}{" "}
          <button type="button" onClick={() => void loadList()}>
            {t("retry")}
          </button>
        </p>
      )}
      {mishap.value && (
        <p class="banner bad" role="alert" data-testid="mishap">
          {mishap.value}{" "}
          <button
            type="button"
            onClick={() => {
              mishap.value = null;
            }}
          >
            {t("close")}
          </button>
        </p>
      )}
      <main id="main" tabIndex={-1}>
        <Page />
      </main>
      <footer>{t("notice")}</footer>
      <div class="unseen" role="status" aria-live="polite" data-testid="live">
        {announced.value}
      </div>
    </>
  );
}

function Page() {
  const where = route.value;
  if (where.at === "tasks") return <TasksPage />;
  if (where.at === "slide") return <SlidePage key={where.id} id={where.id} />;
  return <WorklistPage />;
}

function toMain() {
  document.getElementById("main")?.focus();
}

function Header({ who }: { who: Session }) {
  return (
    <header class="top">
      <a class="brand" href="#/">
        CytoLibra
      </a>
      <nav aria-label={t("title")}>
        <a href="#/" aria-current={route.value.at === "worklist" ? "page" : undefined}>
          {t("worklist")}
        </a>
        <a href="#/tasks" aria-current={route.value.at === "tasks" ? "page" : undefined}>
          {t("tasks")}
        </a>
      </nav>
      <span class="where" title={who.folder}>
        {who.folder}
      </span>
      {who.reader && (
        <span class="who">
          <span data-testid="reader">{who.reader.name}</span>
          <button type="button" class="link" data-testid="sign-out" onClick={() => void signOut()}>
            {t("signOut")}
          </button>
        </span>
      )}
      <LanguageChoice />
    </header>
  );
}

function LanguageChoice() {
  return (
    <select
      aria-label={t("language")}
      data-testid="language"
      value={language.value}
      onChange={(event) => setLanguage(event.currentTarget.value as Language)}
    >
      <option value="en">English</option>
      <option value="zh">中文</option>
    </select>
  );
}

async function signOut() {
  session.value = await request<Session>("/api/session", { method: "DELETE" });
  list.value = null;
}

function NameDialog({ who }: { who: Session }) {
  const [name, setName] = useState("");
  const [password, setPassword] = useState("");
  const [problem, setProblem] = useState("");
  const begin = async (event: Event) => {
    event.preventDefault();
    try {
      const given = who.mode === "users" ? { name, password } : { name };
      session.value = await post<Session>("/api/session", given);
      asked.value = "";
    } catch (error) {
      setProblem(told(error));
    }
  };
  return (
    <main class="door">
      <form class="card" data-testid="name-dialog" onSubmit={(event) => void begin(event)}>
        <h1>{t("whoTitle")}</h1>
        <p class="muted">{t("whoHelp")}</p>
        <label>
          {t("name")}
          <input
            name="name"
            autocomplete="username"
            required
            maxLength={100}
            list="readers"
            value={name}
            onInput={(event) => setName(event.currentTarget.value)}
          />
        </label>
        <datalist id="readers">
          {who.readers.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
        {who.mode === "users" && (
          <label>
            {t("password")}
            <input
              name="password"
              type="password"
              autocomplete="current-password"
              required
              value={password}
              onInput={(event) => setPassword(event.currentTarget.value)}
            />
          </label>
        )}
        {(problem || asked.value) && (
          <p class="bad" role="alert">
            {problem || asked.value}
          </p>
        )}
        <div class="row">
          <button type="submit" class="primary" data-testid="begin">
            {t("begin")}
          </button>
          <LanguageChoice />
        </div>
        <p class="small muted">{t("notice")}</p>
      </form>
    </main>
  );
}

function Message({ text, retry = false }: { text: string; retry?: boolean }) {
  return (
    <main class="door">
      <div class="card">
        <h1>CytoLibra</h1>
        <p>{text}</p>
        {retry && (
          <button type="button" onClick={() => void loadSession()}>
            {t("retry")}
          </button>
        )}
      </div>
    </main>
  );
}
