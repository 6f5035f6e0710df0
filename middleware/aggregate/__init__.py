from .layer import Aggregate as Aggregate
