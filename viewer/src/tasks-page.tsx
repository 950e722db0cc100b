import { useEffect, useState } from "preact/hooks";
import { request } from "./api";
import { trim } from "./geometry";
import { failure } from "./state";
import { t } from "./strings";
import type { Task } from "./types";

/** Fields that `cytolibra reviews select` proposes. */
export function TasksPage() {
  const [tasks, setTasks] = useState<Task[] | null>(null);
  useEffect(() => {
    document.title = `${t("tasks")} · CytoLibra`;
    request<{ tasks: Task[] }>("/api/tasks")
      .then((found) => setTasks(found.tasks))
      .catch((error: Error) => {
        failure.value = error.message;
      });
  }, []);
  if (!tasks) return <p class="loading">{t("loading")}</p>;
  return (
    <section class="tasks" aria-label={t("tasks")}>
      <h1>{t("tasks")}</h1>
      {tasks.length === 0 && <p class="empty">{t("noTasks")}</p>}
      <ol>
        {tasks.map((task) => (
          <li key={task.id} data-testid="task">
            <a href={`#/slide/${task.slide}/task/${task.id}`}>{task.name}</a>
            <span class={task.done ? "tag" : "tag warn"}>
              {task.done ? t("taskDone") : t("taskOpen")}
            </span>
            <span class="muted small">
              {task.reason} · {trim(task.score)}
            </span>
          </li>
        ))}
      </ol>
    </section>
  );
}
