# Reads which daemons run ("watch PID", "forget PID") until the process that started them closes the pipe or ends;
# then kills those that still run and removes the folder $1.
running=
while read -r what pid; do
  case $what in
    watch) running="$running $pid" ;;
    forget)
      kept=
      for p in $running; do [ "$p" = "$pid" ] || kept="$kept $p"; done
      running=$kept
      ;;
  esac
done
[ -z "$running" ] || kill -KILL $running
# A killed process may take a moment to end, and until then write.
for attempt in 1 2 3 4 5; do
  rm -rf --one-file-system "$1" && break
  sleep 0.2
done
